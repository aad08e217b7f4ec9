"""Sets in tar files, as webdataset keeps them: which tar files a split has, and where in them each image lies."""
