"""The demo that `make demo` runs: real flights through a real Airflow, twice."""
