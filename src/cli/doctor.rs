//! `tenantry doctor`: runs the self-check that guards every start of a server.

use clap::builder::NonEmptyStringValueParser;

use super::{Failure, counted, runtime, say};
use crate::{
    config::DatabaseConfig,
    http,
    tenancy::{Databases, Extent, Severity},
    usage,
};

/// Check tenant isolation as the app role. Prints one line per finding; exit status 1 on any fault.
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    database: DatabaseConfig,

    /// The plan that new organizations try.
    #[arg(long, env, value_parser = NonEmptyStringValueParser::new())]
    trial_plan: Option<String>,
}

impl Doctor {
    pub(super) fn run(self) -> Result<(), Failure> {
        let options = self.database.options()?;
        runtime()?.block_on(async {
            let databases = Databases::shared(&options)?;
            if let Err(problem) = http::check_migrations(&databases).await {
                say(format!("fault: {problem}"));
                return Err(Failure::new("1 fault"));
            }
            let mut findings = options.transport_findings();
            findings.extend(databases.self_check(Extent::Complete).await?);
            findings.extend(databases.check_features(&usage::declared_features()).await);
            if let Some(plan) = &self.trial_plan {
                findings.extend(databases.check_trial_plan(plan).await?);
            }
            findings.extend(databases.findings_of_databases(Extent::Complete).await);
            for finding in &findings {
                say(finding);
            }
            let faults =
                findings.iter().filter(|finding| finding.severity == Severity::Fault).count();
            match (faults, findings.len()) {
                (0, 0) => say("All is well."),
                (0, warnings) => say(format!("No faults; {}.", counted(warnings, "warning"))),
                (faults, _) => return Err(Failure::new(counted(faults, "fault"))),
            }
            Ok(())
        })
    }
}
