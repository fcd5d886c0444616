//! The steps of the product that is built on tenantry, oldest first. Their names begin with `app/`.

use crate::Step;

mod m0001_project;

pub(crate) const STEPS: &[Step] = &[m0001_project::STEP];
