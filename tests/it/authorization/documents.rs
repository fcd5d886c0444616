//! Documents that reach every field of the schema, derived from it: a resource that has a list in
//! `Organization` and mutations of the usual shape needs no line here.

use std::collections::HashMap;

use apollo_compiler::{
    Schema,
    ast::{FieldDefinition, Type},
    schema::ExtendedType,
    validation::Valid,
};
use tenantry::{declared::Declared as _, graphql::NodeType, schema::sdl};

use crate::{
    isolation::fill,
    support::{
        App,
        resources::{self, further_resources},
    },
};

/// The ends of the names of types that only wrap others, unless clients fetch them by id.
const WRAPPERS: [&str; 7] =
    ["Connection", "Edge", "Payload", "PageInfo", "Session", "Change", "Subscription"];

/// The schema, and an object of acme for each type.
pub struct Documents {
    schema: Valid<Schema>,
    ids: HashMap<String, String>,
}

impl Documents {
    /// Finds the objects in this database, whose state allows every mutation.
    pub async fn new(app: &App) -> Self {
        prepare(app).await;
        let further = further_resources();
        let is_further = |table: &str| further.iter().any(|resource| resource.table == table);
        fill(&app.database, |table| is_further(table.base_name())).await;
        let mut ids = HashMap::new();
        for node in NodeType::all() {
            ids.insert(node.name().into_owned(), id(app, node.table).await);
        }
        Self { schema: Schema::parse_and_validate(sdl(), "schema.graphql").unwrap(), ids }
    }

    /// The types whose fields are requested, and these fields.
    pub fn fields(&self) -> Vec<(&str, &FieldDefinition)> {
        let mut fields = Vec::new();
        for (name, kind) in &self.schema.types {
            let is_node = self.ids.contains_key(name.as_str());
            let wraps = !is_node && WRAPPERS.iter().any(|end| name.ends_with(end));
            if let (ExtendedType::Object(object), false) = (kind, wraps || name.starts_with("__")) {
                fields.extend(object.fields.values().map(|field| (name.as_str(), &***field)));
            }
        }
        fields.sort_by_key(|(name, _)| *name);
        fields
    }

    /// Returns the document that reaches a field.
    pub fn document(&self, type_name: &str, field: &FieldDefinition) -> String {
        let selected = self.selection(field);
        match type_name {
            "Query" => format!("{{ {selected} }}"),
            "Mutation" => format!("mutation {{ {} }}", self.mutation(field)),
            "Organization" => format!("{{ organization {{ {selected} }} }}"),
            "InvitationPreview" => format!("{{ invitation(token: \"none\") {{ {selected} }} }}"),
            "ReceivedInvitation" => format!("{{ viewer {{ invitations {{ {selected} }} }} }}"),
            "Billing" => format!("{{ organization {{ billing {{ {selected} }} }} }}"),
            "Entitlement" => format!("{{ organization {{ entitlements {{ {selected} }} }} }}"),
            "UsagePeriod" => {
                format!("{{ organization {{ usage(feature: \"exports\") {{ {selected} }} }} }}")
            }
            "User" => format!(
                "{{ organization {{ members(first: 1) {{ nodes {{ user {{ {selected} }} }} }} }} }}"
            ),
            "Viewer" => format!("{{ viewer {{ {selected} }} }}"),
            "Membership" => format!("{{ viewer {{ memberships {{ {selected} }} }} }}"),
            "Identity" => format!("{{ viewer {{ identities {{ {selected} }} }} }}"),
            "Plan" => format!("{{ plans {{ {selected} }} }}"),
            "PlanFeature" => format!("{{ planFeatures {{ {selected} }} }}"),
            "PlanPrice" => format!("{{ plans {{ prices {{ {selected} }} }} }}"),
            "Feature" => format!("{{ planFeatures {{ feature {{ {selected} }} }} }}"),
            other => {
                let list = self.list_of(other);
                format!("{{ organization {{ {list}(first: 1) {{ nodes {{ {selected} }} }} }} }}")
            }
        }
    }

    /// The field of `Organization` that lists objects of a type.
    fn list_of(&self, type_name: &str) -> &str {
        let connection = format!("{type_name}Connection");
        let organization = self.schema.get_object("Organization").unwrap();
        let mut lists = organization.fields.values();
        let list = lists.find(|field| *field.ty.inner_named_type() == connection.as_str());
        list.unwrap_or_else(|| panic!("decide how the tests reach {type_name}")).name.as_str()
    }

    /// Returns the selection of a field: with arguments where it needs some, and a subselection for
    /// an object.
    fn selection(&self, field: &FieldDefinition) -> String {
        let name = field.name.as_str();
        let of = field.ty.inner_named_type().as_str();
        let project = || &self.ids["Project"];
        let arguments = match name {
            "node" => format!("(id: \"{}\")", project()),
            "nodes" => format!("(ids: [\"{}\"])", project()),
            "invitation" => "(token: \"none\")".to_owned(),
            "entitlement" | "usage" => "(feature: \"exports\")".to_owned(),
            _ if field.argument_by_name("id").is_some() => format!("(id: \"{}\")", self.ids[of]),
            _ => String::new(),
        };
        let inside = match self.schema.types[of] {
            ExtendedType::Object(_) | ExtendedType::Interface(_) => " { __typename }",
            _ => "",
        };
        format!("{name}{arguments}{inside}")
    }

    fn mutation(&self, field: &FieldDefinition) -> String {
        let name = field.name.as_str();
        let input = match name {
            "query" => return "query { viewer { id } }".to_owned(),
            "createOrganization" => "{ name: \"New\", slug: \"brand-new\" }".to_owned(),
            "updateOrganization" => "{ name: \"Renamed\" }".to_owned(),
            "deleteOrganization" => "{ slug: \"acme\" }".to_owned(),
            "unlinkIdentity" => "{ id: \"none\" }".to_owned(),
            "acceptInvitation" | "declineInvitation" => "{ token: \"none\" }".to_owned(),
            "inviteMember" => "{ email: \"new@example.com\", role: VIEWER }".to_owned(),
            "updateMemberRole" => format!("{{ id: \"{}\", role: MEMBER }}", self.ids["Member"]),
            "changePlan" => "{ plan: \"enterprise\" }".to_owned(),
            "startTrial" | "createCheckoutSession" => "{ plan: \"pro\" }".to_owned(),
            "createBillingPortalSession" => "{}".to_owned(),
            "consumeUsage" | "recordUsage" => {
                "{ feature: \"exports\", amount: 1, idempotencyKey: \"once\" }".to_owned()
            }
            _ => self.input(field),
        };
        format!("{name}(input: {input}) {{ __typename }}")
    }

    /// An input with a value for each field, by its type. `id` is that of the object in the
    /// payload, and `memberId` that of a member.
    fn input(&self, mutation: &FieldDefinition) -> String {
        let input = mutation.argument_by_name("input").unwrap().ty.inner_named_type();
        let input = self.schema.get_input_object(input).unwrap();
        let values = input.fields.values().filter_map(|field| {
            let value = match field.ty.inner_named_type().as_str() {
                "ID" => match self.id_for(mutation, &field.name) {
                    Some(id) => format!("\"{id}\""),
                    None if field.is_required() => {
                        panic!("give the mutation {} an input here", mutation.name)
                    }
                    None => return None,
                },
                of => self.value(of, &field.ty)?,
            };
            Some(format!("{}: {value}", field.name))
        });
        format!("{{ {} }}", values.collect::<Vec<_>>().join(", "))
    }

    fn id_for(&self, mutation: &FieldDefinition, field: &str) -> Option<&String> {
        let payload = self.schema.get_object(mutation.ty.inner_named_type()).unwrap();
        let of = field.strip_suffix("Id").map_or_else(
            || payload.fields.values().next().unwrap().ty.inner_named_type().to_string(),
            |name| name[..1].to_uppercase() + &name[1..],
        );
        self.ids.get(&of)
    }

    fn value(&self, of: &str, kind: &Type) -> Option<String> {
        let value = match of {
            "String" => "\"new\"",
            "Int" | "BigInt" => "1",
            "Float" => "1.5",
            "Boolean" => "true",
            "Date" => "\"2026-01-01\"",
            "DateTime" => "\"2026-01-01T00:00:00Z\"",
            "UUID" => &format!("\"{}\"", resources::UUID),
            "JSON" => "{}",
            other => match &self.schema.types[other] {
                ExtendedType::Enum(values) => values.values.keys().next().unwrap().as_str(),
                _ if kind.is_non_null() => panic!("decide which {other} the tests send"),
                _ => return None,
            },
        };
        Some(if kind.is_list() { format!("[{value}]") } else { value.to_owned() })
    }
}

/// An open invitation, a subscription that was canceled, so that resuming it changes something and
/// canceling it changes nothing, and a meter that was used.
async fn prepare(app: &App) {
    app.database
        .execute(
            "INSERT INTO auth.invitations (organization_id, email, role, token_hash, invited_by, expires_at)
             SELECT o.id, 'guest@example.com', 'member', sha256('x'), m.user_id, now() + interval '1 day'
             FROM app.organizations o JOIN auth.organization_members m ON m.organization_id = o.id AND m.role = 'owner'
             WHERE o.slug = 'acme';
             UPDATE billing.organization_billing
             SET cancel_at_period_end = true, period_end = now() + interval '1 day';
             INSERT INTO billing.features (feature, kind, name, period, position) VALUES ('exports', 'meter', 'Exports', 'month', 4);
             INSERT INTO billing.plan_features (plan, feature) VALUES ('pro', 'exports');
             INSERT INTO billing.usage (organization_id, feature, period_start, used)
             SELECT id, 'exports', '2026-01-01T00:00:00Z', 1 FROM app.organizations WHERE slug = 'acme'",
        )
        .await;
}

/// The id of a row of acme. Of the members it is the viewer.
async fn id(app: &App, table: &str) -> String {
    let acme = "(SELECT id FROM app.organizations WHERE slug = 'acme')";
    let rows = match table {
        "organizations" => format!("app.organizations WHERE id = {acme}"),
        "users" => "auth.users".to_owned(),
        "organization_members" => {
            format!("auth.{table} WHERE organization_id = {acme} AND role = 'viewer'")
        }
        _ => {
            let name = format!("SELECT min(schemaname) FROM pg_tables WHERE tablename = '{table}'");
            let schema: String = app.database.value(&name).await;
            format!("{schema}.{table} WHERE organization_id = {acme}")
        }
    };
    app.database.value(&format!("SELECT min(id::text) FROM {rows}")).await
}
