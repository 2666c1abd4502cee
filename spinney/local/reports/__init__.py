"""Charts and colours of the HTML pages that commands write."""
