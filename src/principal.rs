//! Who is calling, and what they may do.

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
    /// Nobody was asked: the one caller of a gateway without credentials.
    None,
    /// A proxy that the gateway trusts named it in a header.
    ProxyHeader,
}

/// Names in stored records, which must not change.
const METHODS: [(Authentication, &str); 2] =
    [(Authentication::None, "none"), (Authentication::ProxyHeader, "proxy_header")];

/// The identity that every job, key, conversation and session belongs to. Two principals are the same where tenant and subject
/// are, however each was recognised. Clones share it. There is no default one: whoever needs one is given it by a door.
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

    /// The one caller of a gateway that asks for no credentials.
    pub fn local() -> Self {
        Self::new("", "local", Authentication::None, Box::default())
    }

    /// Whom a trusted proxy named.
    pub fn from_proxy(subject: &str) -> Self {
        Self::new("", subject, Authentication::ProxyHeader, Box::default())
    }

    /// Whom a stored job belongs to. Earlier builds stored the subject alone, as the job's `caller`.
    pub fn of_record(record: &storage::JobRecord) -> Self {
        Self::of_stored_or_caller(
            record.principal.as_ref(),
            record.job.as_ref().map_or("", |job| job.caller.as_str()),
        )
    }

    /// `caller`: the job's, for records of earlier builds.
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

    /// As it is stored with a job.
    pub fn to_stored(&self) -> storage::Principal {
        let method = METHODS.iter().find(|(method, _)| *method == self.0.authentication);
        storage::Principal {
            tenant: self.tenant().to_owned(),
            subject: self.name().to_owned(),
            authentication: method.map_or("", |(_, name)| name).to_owned(),
            roles: self.0.roles.iter().map(ToString::to_string).collect(),
        }
    }

    /// The subject: who it is within its tenant. Stored with jobs as their caller and printed in events.
    pub fn name(&self) -> &str {
        &self.0.subject
    }

    /// The tenant; empty where there are none.
    pub fn tenant(&self) -> &str {
        &self.0.tenant
    }

    /// How it was recognised.
    pub fn authentication(&self) -> Authentication {
        self.0.authentication
    }

    /// Whether whoever recognised it gave it this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.0.roles.iter().any(|given| **given == *role)
    }

    /// Whether everything that is known of both is the same, which says more than that they are the same principal.
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

/// What may be done by whom. Asked when a task is submitted, again at each tool call, and of every record that a listing or
/// a read by id would show.
pub trait Policy: Send + Sync + fmt::Debug {
    /// Whether the principal may hand in this task.
    ///
    /// # Errors
    /// Why not, for the principal.
    fn may_submit(&self, principal: &Principal, task: &pb::Task) -> Result<()>;

    /// Whether the principal's job, or session, may call this tool of the catalogue.
    ///
    /// # Errors
    /// Why not, for the principal.
    fn may_call(&self, principal: &Principal, tool: &str) -> Result<()>;

    /// Whether the principal may see and change what `owner` owns. Others are told that it does not exist.
    fn may_access(&self, principal: &Principal, owner: &Principal) -> bool;
}

/// Everybody may do everything with what is theirs, and nobody else's exists.
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
