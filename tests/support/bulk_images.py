"""The images of tests of bulk runs."""

COUNT = 11
