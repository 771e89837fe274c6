//! The core of xfer, as a library so that tests, benchmarks and fuzz targets reach it.
