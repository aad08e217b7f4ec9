"""What vitlib is made of: known advisories, licences of files and packages, and the bill of materials. `python -m docs.audit`."""
