//! The catalogue of features, plans and prices as a JSON file, which can be kept in version control
//! and applied in a deployment. Prices differ between Stripe's test and live modes, so each needs a
//! file, or a file without prices.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::Read,
    path::Path,
};

use pg::Client;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor},
};
use serde_json::Value;

use super::{
    Failure,
    catalogue::{Limit, archive, limit_sql, make_default, set_limit},
    feature::{Kind, Period, columns, parse_key, parse_name},
    plan_file_prices::{self, PriceEntry},
    print,
};

/// The content of a file. The order of features and plans is the order of display.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Catalogue {
    features: Vec<FeatureEntry>,
    plans: Vec<PlanEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FeatureEntry {
    key: String,
    kind: Kind,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    period: Option<Period>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanEntry {
    key: String,
    name: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    archived: bool,
    /// By feature: a number, "unlimited", "on" or "off". The plan does not include other features.
    #[serde(deserialize_with = "without_duplicates")]
    limits: BTreeMap<String, Value>,
    /// Without it, the prices of the plan stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prices: Option<Vec<PriceEntry>>,
}

/// Reads a map, of which each key must be unique.
fn without_duplicates<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Value>, D::Error> {
    struct Unique;

    impl<'de> Visitor<'de> for Unique {
        type Value = BTreeMap<String, Value>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("limits by feature")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut limits = BTreeMap::new();
            while let Some(feature) = entries.next_key::<String>()? {
                if limits.contains_key(&feature) {
                    let problem = format!("the limit of {feature} appears twice");
                    return Err(de::Error::custom(problem));
                }
                limits.insert(feature, entries.next_value()?);
            }
            Ok(limits)
        }
    }

    deserializer.deserialize_map(Unique)
}

/// Writes the catalogue to a file.
pub(super) async fn export(connection: &Client, file: &Path) -> Result<(), Failure> {
    let sql = format!(
        "SELECT jsonb_build_object(
             'features', (SELECT jsonb_agg(jsonb_strip_nulls(jsonb_build_object('key', feature, 'kind', kind, 'name', name,
                 'unit', unit, 'description', description, 'period', period)) ORDER BY position, feature) FROM billing.features),
             'plans', (SELECT jsonb_agg(jsonb_build_object('key', plan, 'name', name, 'default', is_default,
                 'archived', archived_at IS NOT NULL,
                 'limits', (SELECT coalesce(jsonb_object_agg(f.feature, {}), '{{}}')
                     FROM billing.plan_features l JOIN billing.features f USING (feature) WHERE l.plan = p.plan),
                 'prices', {})
                 ORDER BY position) FROM billing.plans p))::text",
        limit_sql("f", "l"),
        plan_file_prices::OF_PLAN
    );
    let text: String = connection.query_one(&sql, &[]).await?;
    let mut catalogue: Catalogue = serde_json::from_str(&text)?;
    for limit in catalogue.plans.iter_mut().flat_map(|plan| plan.limits.values_mut()) {
        if let Some(number) = limit.as_str().and_then(|text| text.parse::<i64>().ok()) {
            *limit = number.into();
        }
    }
    let text = serde_json::to_string_pretty(&catalogue)? + "\n";
    if file == Path::new("-") {
        return print(&text);
    }
    fs::write(file, text).map_err(|error| in_file(file, error))
}

/// Reads a file and checks what can be checked without the database.
pub(super) fn read(file: &Path) -> Result<Catalogue, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text)
    } else {
        fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| in_file(file, error))?;
    let catalogue: Catalogue = serde_json::from_str(&text).map_err(|error| in_file(file, error))?;
    catalogue.check().map_err(|problem| in_file(file, problem))?;
    Ok(catalogue)
}

fn in_file(file: &Path, problem: impl fmt::Display) -> Failure {
    Failure::new(format!("{}: {problem}", file.display()))
}

impl Catalogue {
    /// Checks what PostgreSQL would refuse with a less helpful message, or not at all.
    fn check(&self) -> Result<(), String> {
        let features = self.features.iter().map(|feature| ("feature", &feature.key, &feature.name));
        let plans = self.plans.iter().map(|plan| ("plan", &plan.key, &plan.name));
        let mut known = BTreeSet::new();
        for (entry, key, name) in features.chain(plans) {
            parse_key(key).map_err(|problem| format!("the key {key} {problem}"))?;
            parse_name(name)
                .map_err(|problem| format!("the name of the {entry} {key} {problem}"))?;
            if !known.insert((entry, key)) {
                return Err(format!("the {entry} {key} appears twice"));
            }
        }
        let texts = self.features.iter().flat_map(|feature| [&feature.unit, &feature.description]);
        let limits = self.plans.iter().flat_map(|plan| plan.limits.keys());
        if texts.flatten().chain(limits).any(|text| text.contains('\0')) {
            return Err("a text contains NUL".to_owned());
        }
        plan_file_prices::check(self.prices())?;
        match self.plans.iter().filter(|plan| plan.default).collect::<Vec<_>>()[..] {
            [plan] if plan.archived => Err(format!("the default plan {} is archived", plan.key)),
            [_] => Ok(()),
            ref defaults => Err(format!("{} plans are the default. One must be.", defaults.len())),
        }
    }

    /// The prices of the plans for which the file has some, or says that they have none.
    fn prices(&self) -> impl Iterator<Item = (&str, &[PriceEntry])> {
        self.plans.iter().filter_map(|plan| Some((plan.key.as_str(), plan.prices.as_deref()?)))
    }

    /// Makes the catalogue what the file says. `retire` ends the sale of prices that the file does
    /// not name, of the plans for which it has prices.
    pub(super) async fn apply(&self, connection: &Client, retire: bool) -> Result<(), Failure> {
        for (position, feature) in (1_i32..).zip(&self.features) {
            feature.apply(connection, position).await?;
        }
        if let Some(default) = self.plans.iter().find(|plan| plan.default) {
            for (position, plan) in (1_i32..).zip(&self.plans) {
                plan.apply(connection, position).await?;
            }
            make_default(connection, &default.key).await?;
        }
        for plan in self.plans.iter().filter(|plan| plan.archived) {
            archive(connection, &plan.key).await?;
        }
        let features: Vec<_> = self.features.iter().map(|feature| feature.key.as_str()).collect();
        let plans: Vec<_> = self.plans.iter().map(|plan| plan.key.as_str()).collect();
        for (table, key, named) in
            [("billing.features", "feature", &features), ("billing.plans", "plan", &plans)]
        {
            let sql = format!(
                "UPDATE {table} t SET position = o.position FROM (
                     SELECT {key}, (cardinality($1::text[]) + row_number() OVER (ORDER BY position, {key}))::int AS position
                     FROM {table} WHERE {key} <> ALL ($1)
                 ) o WHERE o.{key} = t.{key} AND o.position <> t.position"
            );
            connection.execute(&sql, &[named]).await?;
        }
        for (plan, prices) in self.prices() {
            plan_file_prices::apply(connection, plan, prices, retire).await?;
        }
        Ok(())
    }
}

impl FeatureEntry {
    async fn apply(&self, connection: &Client, position: i32) -> Result<(), Failure> {
        let Self { key, kind, name, unit, description, period } = self;
        let (kind, period) = columns(connection, key, *kind, *period).await?;
        let sql = "INSERT INTO billing.features AS f (feature, kind, period, name, unit, description, position)
             VALUES ($1, $2::text::billing.feature_kind, $3::text::billing.feature_period, $4, $5, $6, $7)
             ON CONFLICT (feature) DO UPDATE SET name = $4, unit = $5, description = $6, position = $7
             WHERE (f.name, f.unit, f.description, f.position) IS DISTINCT FROM ($4, $5, $6, $7)";
        connection.execute(sql, &[key, &kind, &period, name, unit, description, &position]).await?;
        Ok(())
    }
}

impl PlanEntry {
    async fn apply(&self, connection: &Client, position: i32) -> Result<(), Failure> {
        let Self { key, name, limits, .. } = self;
        let sql = "INSERT INTO billing.plans AS p (plan, name, position) VALUES ($1, $2, $3)
             ON CONFLICT (plan) DO UPDATE SET name = $2, position = $3,
                 archived_at = CASE WHEN $4 THEN p.archived_at END
             WHERE (p.name, p.position) IS DISTINCT FROM ($2, $3) OR (p.archived_at IS NULL) = $4";
        connection.execute(sql, &[key, name, &position, &self.archived]).await?;
        let kept: Vec<_> = limits.keys().map(String::as_str).collect();
        let sql = "DELETE FROM billing.plan_features WHERE plan = $1 AND feature <> ALL ($2)";
        connection.execute(sql, &[key, &kept]).await?;
        for (feature, limit) in limits {
            let text = limit.as_str().map_or_else(|| limit.to_string(), ToOwned::to_owned);
            let limit: Limit = text.parse().map_err(|problem| {
                Failure::new(format!("the limit of {feature} in {key} {problem}"))
            })?;
            set_limit(connection, key, feature, limit).await?;
        }
        Ok(())
    }
}
