"""What the HTML pages say and look like."""
