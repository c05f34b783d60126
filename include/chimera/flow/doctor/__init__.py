"""Try what a Deployment is made of, from within Airflow's own environment."""
