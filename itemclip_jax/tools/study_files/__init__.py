"""One study: what lies on the disk, where things are in the patient."""
