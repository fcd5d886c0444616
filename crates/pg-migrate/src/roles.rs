//! The roles of a database: one that owns everything and cannot log in, and logins, none of which
//! has the rights of another.
//!
//! Roles belong to the whole cluster, so migrations of two databases may change them at the same
//! time; a run that is disturbed tries again. What is right already is not changed, so a login
//! needs rights only for what is missing.

use std::time::Duration;

use pg::{Client, ConnectOptions, password_matches, password_verifier};

use crate::{error::Error, transaction::finish};

/// The roles of a database. Names need no quotes.
#[derive(Clone, Copy, Debug)]
pub struct Roles {
    /// Owns every object, and cannot log in.
    pub owner: &'static str,
    /// The roles that log in.
    pub logins: &'static [&'static str],
    /// The settings of the logins: `(setting, value as PostgreSQL stores it)`.
    pub settings: &'static [(&'static str, &'static str)],
    /// A parameter that the owner may set, if the login of the migration can grant that.
    pub parameter: &'static str,
}

impl Roles {
    /// Creates missing roles, sets the settings and `passwords` of logins, and refuses roles with
    /// rights that none of them needs. Changes nothing if the login lacks a right. Without
    /// `passwords`, makes the login a member of the owner, and changes nothing else.
    pub(crate) async fn ensure(
        &self,
        connection: &mut Client,
        options: &ConnectOptions,
        passwords: Option<&[(&str, &str)]>,
    ) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            let transaction = connection.begin().await?;
            let changed = match passwords {
                Some(passwords) => self.apply(&transaction, options, passwords).await,
                None => self.join_owner(&transaction, options).await,
            };
            match finish(transaction, changed).await {
                Err(Error::Database(error)) if attempt < TRIES && is_disturbed(&error) => {
                    tokio::time::sleep(Duration::from_millis(20 * u64::from(attempt))).await;
                }
                outcome => return outcome,
            }
            attempt += 1;
        }
    }

    async fn join_owner(&self, connection: &Client, options: &ConnectOptions) -> Result<(), Error> {
        let membership = format!("{LOGIN} {MEMBERSHIP}");
        let changes = connection.query(&membership, &[&self.owner, &self.logins]).await?;
        execute_all(connection, options, changes).await
    }

    async fn apply(
        &self,
        connection: &Client,
        options: &ConnectOptions,
        passwords: &[(&str, &str)],
    ) -> Result<(), Error> {
        let Self { owner, logins, settings, parameter } = self;
        let create = connection.query(&format!("{LOGIN} {CREATE}"), &[owner, logins]).await?;
        execute_all(connection, options, create).await?;
        if let Some(role) = connection.query_opt(POWERFUL, &[owner, logins]).await? {
            return Err(Error::PowerfulRole(role));
        }
        let (names, values): (Vec<_>, Vec<_>) = settings.iter().copied().unzip();
        connection.batch("SAVEPOINT settings").await?;
        let configure = format!("{LOGIN} {CONFIGURE}");
        let mut changes: Vec<Change> =
            connection.query(&configure, &[owner, logins, &names, &values]).await?;
        connection.batch("ROLLBACK TO SAVEPOINT settings").await?;
        for (role, password) in passwords {
            let set = format!("{LOGIN} {PASSWORD}");
            let verifier = password_verifier(password);
            let change: Change =
                connection.query_one(&set, &[owner, logins, role, &verifier.as_str()]).await?;
            if !is_password(connection, options, role, password, change.1.is_none()).await? {
                changes.push(change);
            }
        }
        let grant = format!("{LOGIN} {MEMBERSHIP} UNION ALL {GRANT}");
        changes.extend(connection.query::<Change>(&grant, &[owner, logins, parameter]).await?);
        execute_all(connection, options, changes).await
    }
}

const TRIES: u32 = 20;

/// Whether another migration changed the same role or database at the same time. Concurrent updates
/// of a catalogue row are internal errors (XX000).
fn is_disturbed(error: &pg::Error) -> bool {
    error.has_code(&["23505", "42710", "40001", "40P01", "XX000"])
}

/// A statement, and what this login lacks to run it: statements for an administrator.
type Change = (String, Option<String>);

/// The login of this connection, and the roles that exist. $1 is the owner, $2 the logins. From
/// PostgreSQL 16 on, CREATEROLE covers only roles that the login administers.
const LOGIN: &str = "WITH given (owner, logins) AS (SELECT $1::name, $2::name[]), login AS (
         SELECT rolname, rolsuper, rolcreaterole, current_setting('server_version_num')::int >= 160000 AS is_restricted
         FROM pg_roles WHERE rolname = current_user
     ), role AS (
         SELECT r.rolname, r.rolconfig,
                l.rolsuper OR NOT l.is_restricted OR pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION') AS is_administered
         FROM pg_roles r JOIN given ON r.rolname = owner OR r.rolname = ANY (logins) CROSS JOIN login l
     ), alterable AS (
         SELECT r.*, nullif(concat_ws('; ',
             CASE WHEN NOT l.rolsuper AND NOT l.rolcreaterole THEN format('ALTER ROLE %I CREATEROLE', l.rolname) END,
             CASE WHEN NOT r.is_administered THEN format('GRANT %I TO %I WITH ADMIN OPTION', r.rolname, l.rolname) END), '') AS missing
         FROM role r CROSS JOIN login l
     )";

/// The statements that create missing roles.
const CREATE: &str = "SELECT format('CREATE ROLE %I %s', r.name, r.options),
            CASE WHEN NOT l.rolsuper AND NOT l.rolcreaterole THEN format('ALTER ROLE %I CREATEROLE', l.rolname) END
     FROM (SELECT owner, 'NOLOGIN' FROM given
           UNION ALL SELECT unnest(logins), 'LOGIN NOINHERIT' FROM given) r (name, options)
     CROSS JOIN login l
     WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r.name)";

/// The roles with rights over the server, with which they could bypass row-level security or own
/// databases.
const POWERFUL: &str = "SELECT rolname::text FROM pg_roles
     WHERE (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication) AND (rolname = $1 OR rolname = ANY ($2))";

/// The statements that set what differs from the settings $3 and their values $4. Values are
/// compared as PostgreSQL reads them: `10000` is `10s`. Leaves these settings behind in the
/// transaction.
const CONFIGURE: &str =
    "SELECT format('ALTER ROLE %I SET %I TO %s', r.rolname, s.name, CASE s.name WHEN 'search_path' THEN s.value ELSE quote_literal(s.value) END), r.missing
     FROM given JOIN alterable r ON r.rolname <> owner CROSS JOIN unnest($3::text[], $4::text[]) s (name, value)
     LEFT JOIN LATERAL (SELECT substr(c, length(s.name) + 2) FROM unnest(r.rolconfig) c
                        WHERE lower(split_part(c, '=', 1)) = lower(s.name)) stored (value) ON true
     WHERE stored.value IS NULL OR set_config(s.name, stored.value, true) <> set_config(s.name, s.value, true)";

/// The statement that sets the password of $3, given as a verifier.
const PASSWORD: &str = "SELECT format('ALTER ROLE %I PASSWORD %L', rolname, $4::text), missing FROM alterable WHERE rolname = $3";

/// The statement that lets this login act as the owner by SET ROLE. From PostgreSQL 16 on a member
/// need not have that right.
const MEMBERSHIP: &str = "SELECT format('GRANT %I TO CURRENT_USER', owner),
            CASE WHEN NOT (r.is_administered AND (l.is_restricted OR l.rolcreaterole) OR pg_has_role(owner, 'MEMBER WITH ADMIN OPTION'))
                 THEN format('GRANT %I TO %I%s', owner, l.rolname, CASE WHEN l.rolcreaterole THEN ' WITH ADMIN OPTION' END) END
     FROM given JOIN role r ON r.rolname = owner CROSS JOIN login l
     WHERE NOT pg_has_role(owner, CASE WHEN l.is_restricted THEN 'SET' ELSE 'MEMBER' END)";

/// The statements that grant what the roles need: the parameter $3 to the owner, where this login
/// may grant it, and rights on the database.
const GRANT: &str =
    "SELECT format('GRANT SET ON PARAMETER %I TO %I', $3::text, owner), NULL FROM given
     WHERE has_parameter_privilege($3, 'SET WITH GRANT OPTION') AND NOT has_parameter_privilege(owner, $3, 'SET')
     UNION ALL
     SELECT format('GRANT %s ON DATABASE %I TO %I', g.privilege, d.datname, g.role),
            CASE WHEN NOT g.is_grantable THEN format('GRANT %s ON DATABASE %I TO %I', g.privilege, d.datname, g.role) END
     FROM pg_database d
     CROSS JOIN LATERAL (SELECT coalesce(d.datacl, acldefault('d', d.datdba))) a (acl)
     CROSS JOIN LATERAL (
         SELECT x.role, x.privilege, has_database_privilege(d.oid, x.privilege || ' WITH GRANT OPTION') AS is_grantable,
                has_database_privilege(x.role, d.oid, x.privilege) AS is_effective
         FROM (SELECT owner, unnest(ARRAY['CONNECT', 'CREATE']) FROM given
               UNION ALL SELECT unnest(logins), 'CONNECT' FROM given) x (role, privilege)) g
     WHERE d.datname = current_database() AND (g.is_grantable OR NOT g.is_effective)
       -- A right of PUBLIC may be revoked later.
       AND NOT EXISTS (SELECT FROM aclexplode(a.acl) e
                       WHERE e.grantee = to_regrole(g.role)::oid AND e.privilege_type = g.privilege)
     UNION ALL
     SELECT format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', d.datname), NULL
     FROM pg_database d CROSS JOIN login l
     WHERE d.datname = current_database() AND (l.rolsuper OR pg_has_role(d.datdba, 'USAGE'))
       AND EXISTS (SELECT FROM aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) e
                   WHERE e.grantee = 0 AND e.privilege_type = 'TEMPORARY')";

/// Whether the role has this password. A login that cannot read it tries it, and another one, which
/// a server must refuse that asks for passwords. If it `may_set` the password, both must agree; if
/// not, only a refused password (28P01) is wrong: other refusals, such as those of `pg_hba.conf`,
/// say nothing about it.
async fn is_password(
    connection: &Client,
    options: &ConnectOptions,
    role: &str,
    password: &str,
    may_set: bool,
) -> pg::Result<bool> {
    let may_read = "SELECT has_table_privilege('pg_authid', 'SELECT')";
    if connection.query_one(may_read, &[]).await? {
        let read = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
        let stored: Option<String> = connection.query_one(read, &[&role]).await?;
        return Ok(stored.is_some_and(|stored| password_matches(&stored, role, password)));
    }
    let log_in = async |password: &str| {
        let login = options.clone().with("user", role).with("password", password);
        Client::connect(&login).await
    };
    if let Err(error) = log_in(password).await {
        return Ok(!may_set && !error.has_code(&["28P01"]));
    }
    let another = log_in(&format!("not {password}")).await;
    Ok(!may_set || another.is_err_and(|error| error.has_code(&["28P01"])))
}

/// Executes the changes, which PostgreSQL has built, quoting included; or none, if the login lacks
/// a right for any of them.
async fn execute_all(
    connection: &Client,
    options: &ConnectOptions,
    changes: Vec<Change>,
) -> Result<(), Error> {
    let mut missing: Vec<String> = Vec::new();
    for right in changes.iter().filter_map(|(_, missing)| missing.as_deref()) {
        for statement in right.split("; ") {
            if !missing.iter().any(|known| known == statement) {
                missing.push(statement.to_owned());
            }
        }
    }
    if !missing.is_empty() {
        let login = options.user().to_owned();
        return Err(Error::MissingRights { login, statements: missing.join("; ") });
    }
    for (statement, _) in changes {
        connection.batch(&statement).await?;
    }
    Ok(())
}
