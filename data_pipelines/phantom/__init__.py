"""The synthetic brain studies: anatomy, lesions, reports."""
