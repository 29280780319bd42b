//! Who is calling, and what they are allowed to do.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::{
    error::Result,
    pb::{self, storage},
};

/// How a principal was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Not authenticated: the only caller of a gateway that asks for no credentials.
    None,
    /// Named by a trusted proxy in a request header.
    ProxyHeader,
}

/// The names used in stored records; they must not change.
const METHODS: [(Authentication, &str); 2] =
    [(Authentication::None, "none"), (Authentication::ProxyHeader, "proxy_header")];

/// The identity that owns jobs, idempotency keys, conversations and sessions. Two principals are equal if tenant and subject
/// are, however each was authenticated. Clones share the data. There is no default: a door supplies the principal of each
/// request.
#[derive(Clone)]
pub struct Principal(Arc<Identity>);

#[derive(Debug, PartialEq, Eq)]
struct Identity {
    tenant: Box<str>,
    subject: Box<str>,
    authentication: Authentication,
    roles: Box<[Box<str>]>,
}

impl Principal {
    fn new(tenant: &str, subject: &str, authentication: Authentication, roles: Box<[Box<str>]>) -> Self {
        let (tenant, subject) = (tenant.into(), subject.into());
        Self(Arc::new(Identity { tenant, subject, authentication, roles }))
    }

    /// Returns the only caller of a gateway that asks for no credentials.
    pub fn local() -> Self {
        Self::new("", "local", Authentication::None, Box::default())
    }

    /// Returns the principal whose subject a trusted proxy named, without a tenant.
    pub fn from_proxy(subject: &str) -> Self {
        Self::new("", subject, Authentication::ProxyHeader, Box::default())
    }

    /// Returns the owner of a stored job. Earlier builds stored only the subject, as the job's `caller`.
    pub fn of_record(record: &storage::JobRecord) -> Self {
        Self::of_stored_or_caller(
            record.principal.as_ref(),
            record.job.as_ref().map_or("", |job| job.caller.as_str()),
        )
    }

    /// Returns the stored principal. A record of an earlier build has none; its principal is the local one if `caller` is that
    /// one's name, and otherwise one named by a proxy.
    pub(crate) fn of_stored_or_caller(stored: Option<&storage::Principal>, caller: &str) -> Self {
        match stored {
            Some(stored) => Self::of_stored(stored),
            None if caller == Self::local().name() => Self::local(),
            None => Self::from_proxy(caller),
        }
    }

    fn of_stored(stored: &storage::Principal) -> Self {
        let method = METHODS.iter().find(|(_, name)| *name == stored.authentication);
        let authentication = method.map_or(Authentication::ProxyHeader, |(method, _)| *method);
        let roles = stored.roles.iter().map(|role| role.as_str().into()).collect();
        Self::new(&stored.tenant, &stored.subject, authentication, roles)
    }

    /// Returns the form that is stored with a job.
    pub fn to_stored(&self) -> storage::Principal {
        let method = METHODS.iter().find(|(method, _)| *method == self.0.authentication);
        storage::Principal {
            tenant: self.tenant().to_owned(),
            subject: self.name().to_owned(),
            authentication: method.map_or("", |(_, name)| name).to_owned(),
            roles: self.0.roles.iter().map(ToString::to_string).collect(),
        }
    }

    /// Returns the subject, which identifies the principal within its tenant. It is stored as a job's caller and printed in
    /// events.
    pub fn name(&self) -> &str {
        &self.0.subject
    }

    /// Returns the tenant; empty where there is none.
    pub fn tenant(&self) -> &str {
        &self.0.tenant
    }

    /// Returns how the principal was authenticated.
    pub fn authentication(&self) -> Authentication {
        self.0.authentication
    }

    /// Returns whether the authenticating party granted this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.0.roles.iter().any(|given| **given == *role)
    }

    /// Returns whether all fields are equal, roles and authentication included, which is stricter than `==`.
    pub fn is_identical(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    fn key(&self) -> (&str, &str) {
        (&self.0.tenant, &self.0.subject)
    }
}

impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Principal {}

impl PartialOrd for Principal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Principal {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tenant() {
            "" => formatter.write_str(self.name()),
            tenant => write!(formatter, "{tenant}/{}", self.name()),
        }
    }
}

/// Decides who may do what. Consulted when a task is submitted, at each tool call, and for every record that a listing or a
/// read by id would return.
pub trait Policy: Send + Sync + fmt::Debug {
    /// Checks whether the principal may submit this task.
    ///
    /// # Errors
    /// The refusal, with a message for the principal.
    fn may_submit(&self, principal: &Principal, task: &pb::Task) -> Result<()>;

    /// Checks whether a job or session of the principal may call this tool of the catalogue.
    ///
    /// # Errors
    /// The refusal, with a message for the principal.
    fn may_call(&self, principal: &Principal, tool: &str) -> Result<()>;

    /// Returns whether the principal may see and change what `owner` owns. To everyone else it appears not to exist.
    fn may_access(&self, principal: &Principal, owner: &Principal) -> bool;
}

/// Grants every principal everything on its own records and nothing on those of others, which appear not to exist.
#[derive(Clone, Copy, Debug)]
pub struct OwnersOnly;

impl Policy for OwnersOnly {
    fn may_submit(&self, _: &Principal, _: &pb::Task) -> Result<()> {
        Ok(())
    }

    fn may_call(&self, _: &Principal, _: &str) -> Result<()> {
        Ok(())
    }

    fn may_access(&self, principal: &Principal, owner: &Principal) -> bool {
        principal == owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_the_same_whatever_it_was_recognised_by() {
        let proxy = Principal::from_proxy("alice");
        let stored = storage::Principal {
            tenant: String::new(),
            subject: "alice".to_owned(),
            authentication: "one of a later build".to_owned(),
            roles: vec!["operator".to_owned()],
        };
        let read = Principal::of_stored(&stored);
        assert!(read == proxy && read.has_role("operator") && !proxy.has_role("operator"));
        let tenant = Principal::of_stored(&storage::Principal { tenant: "a".to_owned(), ..stored });
        assert!(tenant != proxy && !OwnersOnly.may_access(&tenant, &proxy));
        assert_eq!(tenant.to_string(), "a/alice");
        assert_eq!(Principal::of_stored(&proxy.to_stored()).authentication(), Authentication::ProxyHeader);
    }

    #[test]
    fn records_of_earlier_builds_name_their_caller_only() {
        let record = |caller: &str| storage::JobRecord {
            job: Some(pb::Job { caller: caller.to_owned(), ..pb::Job::default() }),
            ..storage::JobRecord::default()
        };
        assert_eq!(Principal::of_record(&record("local")), Principal::local());
        assert_eq!(Principal::of_record(&record("alice")), Principal::from_proxy("alice"));
    }
}
