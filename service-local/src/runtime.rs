//! Where services of this host are found, and by which settings.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use service_core::{Address, Code, Deadline, Handler, InstanceInfo, Namespace, Outcome, Registry, Status, Transport};
use shm_ring::rendezvous::{Access, Connection, RuntimeDir};
use shm_ring::{Home, Trust};

use crate::client::{Cache, Settings};
use crate::errors;
use crate::inside;
use crate::names::{address_of, parse_socket_name};
use crate::server::Serve;

/// Names the runtime directory, in the environment.
pub const RUNTIME_DIR_VARIABLE: &str = "SWITCHBOARD_RUNTIME_DIR";

/// Names the namespace, in the environment.
pub const NAMESPACE_VARIABLE: &str = "SWITCHBOARD_NAMESPACE";

/// Names the mode of trust, in the environment: `checked` or `isolated`.
pub const TRUST_VARIABLE: &str = "SWITCHBOARD_TRUST";

/// Settings of a [`LocalRuntime`]; what is not set comes from the environment, then from the defaults.
#[derive(Debug, Clone, Default)]
pub struct LocalBuilder {
    dir: Option<PathBuf>,
    namespace: Option<Namespace>,
    spin: Option<Duration>,
    trust: Option<Trust>,
    access: Access,
    through_the_kernel: bool,
}

impl LocalBuilder {
    /// The directory of the sockets. Default: `SWITCHBOARD_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/switchboard`, else
    /// `switchboard-UID` in the temporary directory.
    #[must_use]
    pub fn runtime_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// The namespace of addresses that name none. Default: `SWITCHBOARD_NAMESPACE`, else `default`.
    ///
    /// # Errors
    /// `InvalidArgument` if the text is no name.
    pub fn namespace(mut self, namespace: &str) -> Result<Self, Status> {
        self.namespace = Some(namespace.parse()?);
        Ok(self)
    }

    /// How long callers and workers poll before they sleep. Zero: not at all. Default: 50 µs, adapting; always zero
    /// where the process may use one processor only.
    #[must_use]
    pub fn spin(mut self, spin: Duration) -> Self {
        self.spin = Some(spin);
        self
    }

    /// How far services and clients of this user are trusted at most. Default: `SWITCHBOARD_TRUST` (`checked` or
    /// `isolated`), else [`Trust::CHECKED`]. Those of other users are always isolated, and the other side may want less.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// Which other users may call what is served here; by default none. Sockets get this mode and group, and directories
    /// that are made for them let the same users through; those that are there already stay as they are.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Whether services of this very process are called directly, on the caller's thread; they are by default. If not they
    /// are called as those of other processes, by socket and shared memory.
    #[must_use]
    pub fn in_process(mut self, in_process: bool) -> Self {
        self.through_the_kernel = !in_process;
        self
    }

    /// Opens the runtime: makes the directory if need be. Costs a few system calls.
    ///
    /// # Errors
    /// `FailedPrecondition` if the directory cannot be used, and why; `InvalidArgument` for a bad namespace or mode of
    /// trust in the environment.
    pub fn open(self) -> Result<LocalRuntime, Status> {
        let trust = match self.trust {
            Some(trust) => trust,
            None => trust_of_environment()?,
        };
        let dir =
            self.dir.or_else(|| std::env::var_os(RUNTIME_DIR_VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from));
        let dir = dir.unwrap_or_else(RuntimeDir::default_path);
        let namespace = match (self.namespace, std::env::var(NAMESPACE_VARIABLE)) {
            (Some(namespace), _) => namespace,
            (None, Ok(text)) if !text.is_empty() => text.parse()?,
            (None, _) => Namespace::default(),
        };
        // Opened to find out now rather than at the first call.
        to_connect(&dir, &self.access).map_err(|error| errors::not_run(&error))?;
        let home = Home::here().map_err(|error| errors::not_run(&error))?;
        let Self { spin, access, through_the_kernel, .. } = self;
        let shared = Shared { dir, namespace, spin, trust, access, through_the_kernel, cache: Cache::default(), home };
        Ok(LocalRuntime { shared: Arc::new(shared) })
    }
}

fn trust_of_environment() -> Result<Trust, Status> {
    match std::env::var(TRUST_VARIABLE).as_deref() {
        Err(_) | Ok("" | "checked") => Ok(Trust::CHECKED),
        Ok("isolated") => Ok(Trust::ISOLATED),
        Ok(other) => {
            let text = format!("{TRUST_VARIABLE} is `{other}`; `checked` and `isolated` are modes of trust");
            Err(Status::new(Code::InvalidArgument, Outcome::NotRun, text))
        }
    }
}

/// Opens a directory to connect in it: another user's only where somebody has named it. Nobody names the default one,
/// which may lie where everybody could have made it.
fn to_connect(path: &Path, access: &Access) -> Result<RuntimeDir, shm_ring::Error> {
    if path.starts_with(RuntimeDir::default_path()) || !path.exists() {
        return RuntimeDir::open_for(path, access);
    }
    RuntimeDir::open_to_connect(path)
}

struct Shared {
    dir: PathBuf,
    namespace: Namespace,
    spin: Option<Duration>,
    trust: Trust,
    access: Access,
    /// Services of this process are called as those of others.
    through_the_kernel: bool,
    cache: Cache,
    /// The connections are of no use in a child of the process that opened this.
    home: Home,
}

/// Serves and reaches services of this host. Cheap to clone; clones share connections.
///
/// A child made by fork opens its own: whatever it asks of its parent's is `FailedPrecondition`, and calls of its parent's
/// clients are as well.
#[derive(Clone)]
pub struct LocalRuntime {
    shared: Arc<Shared>,
}

impl fmt::Debug for LocalRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalRuntime")
            .field("dir", &self.shared.dir)
            .field("namespace", &self.shared.namespace)
            .finish_non_exhaustive()
    }
}

impl LocalRuntime {
    /// Settings to begin with.
    pub fn builder() -> LocalBuilder {
        LocalBuilder::default()
    }

    /// Prepares to serve `handler` at an address; an address without instance is instance `1`.
    pub fn serve(&self, address: Address, handler: Arc<dyn Handler>) -> Serve {
        Serve::new(self.clone(), address, handler)
    }

    /// The directory in which namespaces are subdirectories.
    pub fn runtime_dir(&self) -> &Path {
        &self.shared.dir
    }

    pub(crate) fn spin(&self) -> Option<Duration> {
        self.shared.spin
    }

    pub(crate) fn namespace_of<'a>(&'a self, address: &'a Address) -> &'a Namespace {
        address.namespace.as_ref().unwrap_or(&self.shared.namespace)
    }

    pub(crate) fn trust(&self) -> Trust {
        self.shared.trust
    }

    pub(crate) fn access(&self) -> &Access {
        &self.shared.access
    }

    /// Where a namespace's sockets are, for the process that opened this and no child of it.
    fn path_of(&self, namespace: Option<&Namespace>) -> Result<PathBuf, shm_ring::Error> {
        self.shared.home.check("the local runtime")?;
        Ok(self.shared.dir.join(namespace.unwrap_or(&self.shared.namespace).as_str()))
    }

    /// A namespace's directory to connect in.
    fn directory(&self, namespace: Option<&Namespace>) -> Result<Arc<RuntimeDir>, Status> {
        let opened = self.path_of(namespace).and_then(|path| to_connect(&path, &self.shared.access));
        opened.map(Arc::new).map_err(|error| errors::not_run(&error))
    }

    /// A namespace's directory to serve in, which is this user's own.
    pub(crate) fn directory_to_serve(&self, namespace: Option<&Namespace>) -> Result<Arc<RuntimeDir>, Status> {
        let opened = self.path_of(namespace).and_then(|path| RuntimeDir::open_for(&path, &self.shared.access));
        opened.map(Arc::new).map_err(|error| errors::not_run(&error))
    }
}

impl LocalRuntime {
    fn settings(&self) -> Settings {
        Settings { spin: self.shared.spin, trust: self.shared.trust }
    }
}

/// How long an instance may take to accept a probe.
const PROBE: Duration = Duration::from_millis(200);

impl Registry for LocalRuntime {
    fn connect(&self, address: &Address, deadline: Option<Deadline>) -> Result<Arc<dyn Transport>, Status> {
        let dir = self.directory(address.namespace.as_ref())?;
        if !self.shared.through_the_kernel
            && let Some(inside) = inside::find(dir.path(), address)
        {
            return Ok(inside);
        }
        let connection = self.shared.cache.connect(&dir, address, self.settings(), deadline).map_err(|status| {
            // The socket's name says less than the address.
            if status.code() == Code::NotFound {
                let text = format!("no live instance of `{address}` in {}", dir.path().display());
                Status::new(Code::NotFound, Outcome::NotRun, text)
            } else {
                status
            }
        })?;
        Ok(connection)
    }

    fn list(&self) -> Result<Vec<InstanceInfo>, Status> {
        let dir = self.directory(None)?;
        let names = dir.names().map_err(|error| errors::not_run(&error))?;
        let live = names.iter().filter_map(|name| {
            let (service, instance) = parse_socket_name(name)?;
            // Whoever does not answer is not there.
            let pid = Connection::connect(&dir, name, PROBE).ok()?.peer().pid;
            Some(InstanceInfo { address: address_of(&self.shared.namespace, service, instance), pid })
        });
        Ok(live.collect())
    }
}
