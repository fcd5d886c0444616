-- The name of this dedicated database; NULL in the control database.
CREATE OR REPLACE FUNCTION app.database_name() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = app, pg_temp AS $$
    SELECT d.name FROM app.database d
$$;
