//! The steps of the product that is built on tenantry, oldest first. tenantry itself has none, so
//! that its updates leave this folder alone. Their names begin with `app/`.

use crate::Step;

pub(crate) const STEPS: &[Step] = &[];
