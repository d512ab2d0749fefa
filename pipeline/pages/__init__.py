"""What the pages in Airflow show, as plain values read from the bucket and the engine; knows no Airflow."""
