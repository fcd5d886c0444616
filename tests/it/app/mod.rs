//! The tests of the product that is built on tenantry, one file per resource.

mod project;
