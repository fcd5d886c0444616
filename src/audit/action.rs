//! Everything that is recorded, in one place.

/// What somebody did: dotted, in the past tense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An organization was founded. Metadata: `name`, `slug`.
    OrganizationCreated,
    /// An organization was changed. Metadata: old and new values.
    OrganizationUpdated,
    /// A project was created. Metadata: `name`.
    ProjectCreated,
    /// A project was changed. Metadata: `name`, and old and new values.
    ProjectUpdated,
    /// A project was deleted. Metadata: `name`.
    ProjectDeleted,
}

impl Action {
    /// The action as it is stored and shown, for example `project.created`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OrganizationCreated => "organization.created",
            Self::OrganizationUpdated => "organization.updated",
            Self::ProjectCreated => "project.created",
            Self::ProjectUpdated => "project.updated",
            Self::ProjectDeleted => "project.deleted",
        }
    }

    /// The type of what was acted on: the part before the dot.
    #[must_use]
    pub fn resource_type(self) -> &'static str {
        let name = self.name();
        name.split_once('.').map_or(name, |(resource, _)| resource)
    }
}
