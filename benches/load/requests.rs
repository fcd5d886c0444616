//! The requests of the workloads. The tests that count the cost of a response send the same ones.

/// A dashboard: organization, plan, 10 projects with creators, members with users, 10 audit rows
/// with actors.
pub const DASHBOARD: &str = "query Dashboard { organization { id name slug plan { name } \
     projects(first: 10) { nodes { id name description createdAt createdBy { id name } } } \
     members(first: 10) { nodes { id role joinedAt user { id name email } } } \
     auditLogs(first: 10) { nodes { id action resourceType createdAt metadata actor { id name } } } } }";

/// One project by its id.
pub const PROJECT: &str = "query Project($id: ID!) { organization { \
     project(id: $id) { id name description createdAt updatedAt } } }";

/// A list of 20 projects.
pub const PROJECTS: &str = "query Projects { organization { \
     projects(first: 20) { nodes { id name description createdAt } } } }";

/// A new project.
pub const CREATE_PROJECT: &str = "mutation Create($input: CreateProjectInput!) { \
     createProject(input: $input) { project { id name createdAt } } }";
