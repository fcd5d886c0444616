//! The workloads: what a client requests, what the response must contain, and which statements that
//! takes.

use std::fmt;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    Failure, client,
    requests::{CREATE_PROJECT, DASHBOARD, PROJECT, PROJECTS},
    seed::Seeded,
    server::Server,
};

/// A workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Workload {
    /// A dashboard: organization, plan, 10 projects with creators, members with users, 10 audit
    /// rows with actors.
    #[value(name = "w1")]
    Dashboard,
    /// One project by its id.
    #[value(name = "w2")]
    Project,
    /// A list of 20 projects.
    #[value(name = "w3")]
    Projects,
    /// A new project: limit check on a locked row, insert, audit row.
    #[value(name = "w4")]
    CreateProject,
    /// 30 % of each of the three reading workloads, 10 % of the writing one.
    #[value(name = "w5")]
    Mix,
}

/// The workloads of the mix and their percentages.
pub(crate) const MIX: [(Workload, u32); 4] = [
    (Workload::Dashboard, 30),
    (Workload::Project, 30),
    (Workload::Projects, 30),
    (Workload::CreateProject, 10),
];

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Dashboard => "W1 dashboard",
            Self::Project => "W2 one project",
            Self::Projects => "W3 20 projects",
            Self::CreateProject => "W4 createProject",
            Self::Mix => "W5 90/10 mix",
        })
    }
}

impl Workload {
    /// Returns the body of a request. `project` belongs to the organization.
    pub(crate) fn body(self, project: Uuid) -> String {
        let (query, variables) = match self {
            Self::Dashboard => (DASHBOARD, json!({})),
            Self::Project => (PROJECT, json!({ "id": project })),
            Self::Projects => (PROJECTS, json!({})),
            Self::CreateProject => (
                CREATE_PROJECT,
                json!({ "input": { "name": "Created under load", "description": "One of many." } }),
            ),
            Self::Mix => return self.one_of().body(project),
        };
        json!({ "query": query, "variables": variables }).to_string()
    }

    /// The users of an organization that may send this request, in the order of `seed.sql`: the
    /// audit log is for owners and admins, and viewers create nothing.
    pub(crate) fn users(self) -> u32 {
        match self {
            Self::Dashboard => 2,
            Self::CreateProject => 4,
            Self::Project | Self::Projects | Self::Mix => crate::seed::USERS,
        }
    }

    /// Returns the workload itself, or the next one of a mix.
    pub(crate) fn one_of(self) -> Self {
        if self != Self::Mix {
            return self;
        }
        let all: u32 = MIX.iter().map(|(_, share)| share).sum();
        let mut ticket = fastrand::u32(..all);
        for (workload, share) in MIX {
            if ticket < share {
                return workload;
            }
            ticket -= share;
        }
        self
    }

    /// Fails unless the server responds with the rows of the seed.
    pub(crate) async fn check(self, server: &Server, seeded: &Seeded) -> Result<(), Failure> {
        if self == Self::Mix {
            return Ok(());
        }
        for n in [1, seeded.organizations / 2, seeded.organizations] {
            let (project, number) = seeded.any_project(n);
            let text = client::once(server, seeded, n, &self.body(project)).await?;
            let response: Value = serde_json::from_str(&text)?;
            if let Some(wrong) = self.wrong(&response, n, project, number) {
                return Err(format!("{self} in organization {n}: {wrong}: {response}").into());
            }
        }
        seeded.delete_created().await
    }

    fn wrong(self, response: &Value, n: u32, project: Uuid, number: u32) -> Option<&'static str> {
        let organization = &response["data"]["organization"];
        let rows =
            |field: &str| organization[field]["nodes"].as_array().cloned().unwrap_or_default();
        let newest = |rows: &[Value]| {
            rows.iter()
                .enumerate()
                .all(|(index, row)| row["name"] == format!("Project {} of {n}", 20 - index))
        };
        let found = match self {
            Self::Dashboard => {
                let user = |row: &Value, field: &str| {
                    row[field]["name"]
                        .as_str()
                        .is_some_and(|name| name.starts_with(&format!("User {n}-")))
                };
                let (projects, members, logs) =
                    (rows("projects"), rows("members"), rows("auditLogs"));
                organization["name"] == format!("Organization {n}")
                    && organization["plan"]["name"] == "Enterprise"
                    && (projects.len(), members.len(), logs.len()) == (10, 5, 10)
                    && newest(&projects)
                    && projects.iter().all(|row| user(row, "createdBy"))
                    && members.iter().all(|row| user(row, "user"))
                    && logs.iter().all(|row| user(row, "actor"))
            }
            Self::Project => {
                let row = &organization["project"];
                row["id"] == project.to_string()
                    && row["name"] == format!("Project {number} of {n}")
            }
            Self::Projects => rows("projects").len() == 20 && newest(&rows("projects")),
            Self::CreateProject | Self::Mix => {
                response["data"]["createProject"]["project"]["name"] == "Created under load"
            }
        };
        (!found || response.get("errors").is_some()).then_some("not the rows of the seed")
    }
}
