"""Which rows of a table are scanned, as a small text for the command line."""

from executor.sharding.filter.form import Filter as Filter
from executor.sharding.filter.form import render as render
from executor.sharding.filter.reading import parse_filter as parse_filter
from executor.sharding.filter.sql import condition as condition
