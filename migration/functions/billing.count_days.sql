-- Counts usage by day: the nth element of days is what was counted in the nth 24 hours of the
-- period. What is returned is taken from the latest days, so the sum of the days stays the usage
-- and the last day has some. Rows that are copied from another place, or inserted with their days,
-- keep them.
CREATE OR REPLACE FUNCTION billing.count_days() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change bigint := NEW.used - CASE TG_OP WHEN 'UPDATE' THEN OLD.used ELSE 0 END;
    -- Calls may be written after the end of their month.
    latest timestamptz := least(now(),
        coalesce(NEW.period_end, (NEW.period_start AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC'));
    -- Within a year, also if the clocks of servers differ from this one.
    today integer := least(greatest(ceil(extract(epoch FROM latest - NEW.period_start) / 86400), 1), 366);
    taken bigint;
BEGIN
    IF current_setting('app.replicating', true) = 'on' OR (TG_OP = 'INSERT' AND cardinality(NEW.days) > 0) THEN
        RETURN NEW;
    END IF;
    IF change > 0 THEN
        IF cardinality(NEW.days) < today THEN
            NEW.days = NEW.days || array_fill(0::bigint, ARRAY[today - cardinality(NEW.days)]);
        END IF;
        NEW.days[today] = NEW.days[today] + change;
    END IF;
    FOR n IN REVERSE cardinality(NEW.days) .. 1 LOOP
        taken = least(NEW.days[n], greatest(-change, 0));
        NEW.days[n] = NEW.days[n] - taken;
        change = change + taken;
        EXIT WHEN NEW.days[n] > 0;
        NEW.days = NEW.days[1:n - 1];
    END LOOP;
    RETURN NEW;
END
$$;
