"""What the doors to Airflow, Prefect and Dagster share: a batch that belongs to a run."""
