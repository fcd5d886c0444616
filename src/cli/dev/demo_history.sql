-- The past of the demo, for its charts: members who joined one after the other, and API calls of
-- two months, within the limits of the plans.
UPDATE auth.organization_members
SET joined_at = now() - interval '6 days' * (5 - right(user_id::text, 1)::int);

INSERT INTO billing.usage (organization_id, feature, period_start, used, days)
SELECT o.id, 'api_calls_per_month', month AT TIME ZONE 'UTC', sum(calls), array_agg(calls ORDER BY day)
FROM app.organizations o
CROSS JOIN (SELECT now() AT TIME ZONE 'UTC' AS today) t
CROSS JOIN (VALUES (0), (1)) v (months_ago)
CROSS JOIN LATERAL (SELECT date_trunc('month', today) - interval '1 month' * months_ago AS month) m
CROSS JOIN LATERAL generate_series(month, least(month + interval '1 month - 1 day', today), interval '1 day') day
-- Fewer at weekends, and not the same each day.
CROSS JOIN LATERAL (SELECT CASE WHEN extract(isodow FROM day) > 5 THEN 4 ELSE 12 END AS least_calls) l
CROSS JOIN LATERAL (SELECT ((least_calls + extract(day FROM day)::bigint * 7 % 9)
                            * CASE o.slug WHEN 'acme' THEN 30 ELSE 1 END)::bigint AS calls) c
GROUP BY o.id, month;
