-- Copies changes that tests make to the plans of the control database to eu, as `tenantry plan`
-- does.
CREATE FUNCTION eu.copy_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    former jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) END;
    later  jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) END;
    target text := format('eu.%I', TG_TABLE_NAME);
    the_row text := format('(%1$s) IN (SELECT %1$s FROM jsonb_populate_record(NULL::%2$s, $1))', TG_ARGV[0], target);
    columns text := (SELECT string_agg(quote_ident(k), ', ' ORDER BY k) FROM jsonb_object_keys(coalesce(later, former)) k);
BEGIN
    CASE TG_OP
        WHEN 'INSERT' THEN
            EXECUTE format('INSERT INTO %1$s SELECT * FROM jsonb_populate_record(NULL::%1$s, $1)', target) USING later;
        WHEN 'UPDATE' THEN
            EXECUTE format('UPDATE %1$s SET (%2$s) = (SELECT %2$s FROM jsonb_populate_record(NULL::%1$s, $2)) WHERE ', target, columns)
                || the_row USING former, later;
        ELSE
            EXECUTE format('DELETE FROM %s WHERE ', target) || the_row USING former;
    END CASE;
    RETURN NULL;
END
$$;
CREATE TRIGGER copy_change AFTER INSERT OR UPDATE OR DELETE ON billing.features FOR EACH ROW EXECUTE FUNCTION eu.copy_change('feature');
CREATE TRIGGER copy_change AFTER INSERT OR UPDATE OR DELETE ON billing.plans FOR EACH ROW EXECUTE FUNCTION eu.copy_change('plan');
CREATE TRIGGER copy_change AFTER INSERT OR UPDATE OR DELETE ON billing.plan_features FOR EACH ROW EXECUTE FUNCTION eu.copy_change('plan, feature');
CREATE TRIGGER copy_change AFTER INSERT OR UPDATE OR DELETE ON billing.plan_prices FOR EACH ROW EXECUTE FUNCTION eu.copy_change('stripe_price_id');
