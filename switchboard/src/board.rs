//! The one object that a program makes: where its services are found.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use service_core::{Address, Connector, Handler, InstanceInfo, Registry, Spawn, Status};
use service_local::{Access, LocalBuilder, LocalRuntime, RunningService, Trust};

/// Serves services and reaches them by name. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Switchboard {
    local: LocalRuntime,
}

impl Switchboard {
    /// By the environment: `SWITCHBOARD_RUNTIME_DIR` and `SWITCHBOARD_NAMESPACE`, else the defaults of
    /// [`Builder`].
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn from_env() -> Result<Self, Status> {
        Self::builder().open()
    }

    /// Settings to begin with.
    pub fn builder() -> Builder {
        Builder { local: LocalRuntime::builder() }
    }

    /// Prepares to serve at an address, `domain.service[@instance]`; without an instance it is instance `1`.
    pub fn serve(&self, address: &str, handler: impl Handler) -> Serve {
        let address = Address::parse(address).map_err(Status::from);
        Serve { inner: address.map(|address| self.local.serve(address, Arc::new(handler))) }
    }

    /// The live instances of the namespace. Asks each: some tens of microseconds an instance.
    ///
    /// # Errors
    /// A [`Status`] if the runtime directory cannot be read.
    pub fn list(&self) -> Result<Vec<InstanceInfo>, Status> {
        self.local.list()
    }
}

impl Connector for Switchboard {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.local.clone())
    }
}

/// Settings of a [`Switchboard`].
#[derive(Debug, Clone)]
#[must_use = "nothing happens until it is opened"]
pub struct Builder {
    local: LocalBuilder,
}

impl Builder {
    /// The directory of the sockets; made if it is not there. In one of another user's services can be called that let
    /// this user in; to serve there is refused.
    ///
    /// Default: `SWITCHBOARD_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/switchboard`, else `switchboard-UID` in the
    /// temporary directory.
    pub fn runtime_dir(self, dir: impl Into<PathBuf>) -> Self {
        Self { local: self.local.runtime_dir(dir) }
    }

    /// The namespace of addresses that name none. Default: `SWITCHBOARD_NAMESPACE`, else `default`.
    ///
    /// # Errors
    /// `InvalidArgument` if the text is no name.
    pub fn namespace(self, namespace: &str) -> Result<Self, Status> {
        Ok(Self { local: self.local.namespace(namespace)? })
    }

    /// How long callers and workers poll before they sleep. Zero: not at all. Default: 50 µs, adapting; always zero
    /// where the process may use one processor only.
    pub fn spin(self, spin: Duration) -> Self {
        Self { local: self.local.spin(spin) }
    }

    /// How far services and clients of this user are trusted at most. Default: `SWITCHBOARD_TRUST` (`checked` or
    /// `isolated`), else [`Trust::CHECKED`]. Those of other users are always isolated, and the other side may want less.
    pub fn trust(self, trust: Trust) -> Self {
        Self { local: self.local.trust(trust) }
    }

    /// Which other users may call what is served here; by default none. Sockets get this mode and group, and directories
    /// that are made for them let the same users through; those that are there already stay as they are.
    ///
    /// The other users name the directory by [`runtime_dir`](Self::runtime_dir), which may then belong to somebody else.
    pub fn access(self, access: Access) -> Self {
        Self { local: self.local.access(access) }
    }

    /// Whether services of this very process are called directly, on the caller's thread; they are by default. If not they
    /// are called as those of other processes, by socket and shared memory.
    pub fn in_process(self, in_process: bool) -> Self {
        Self { local: self.local.in_process(in_process) }
    }

    /// Opens the switchboard: makes the directory if need be. Costs a few system calls.
    ///
    /// # Errors
    /// `FailedPrecondition` if the directory cannot be used, and why; `InvalidArgument` for a bad namespace or mode of
    /// trust in the environment.
    pub fn open(self) -> Result<Switchboard, Status> {
        Ok(Switchboard { local: self.local.open()? })
    }
}

/// Sets a service up; made by [`Switchboard::serve`].
#[derive(Debug)]
#[must_use = "nothing is served until it is started"]
pub struct Serve {
    inner: Result<service_local::Serve, Status>,
}

impl Serve {
    /// Worker threads, 1 to 1,024; default: one per processor. So many handlers run at once, asynchronous ones aside. A
    /// worker whose handler waits for the answer of another service is stood in for, up to 64 times.
    pub fn workers(self, workers: usize) -> Self {
        Self { inner: self.inner.map(|serve| serve.workers(workers)) }
    }

    /// Where asynchronous handlers are run, such as `move |call| drop(handle.spawn(call))` with the handle of a runtime;
    /// default: on the workers. For handlers that need the reactor of a runtime such as tokio. Costs some microseconds a
    /// call.
    pub fn runtime(self, runtime: impl Spawn) -> Self {
        Self { inner: self.inner.map(|serve| serve.runtime(runtime)) }
    }

    /// Most connections at once, 1 to 16,384; default 1,024. One more is refused with `ResourceExhausted`.
    pub fn max_connections(self, connections: u32) -> Self {
        Self { inner: self.inner.map(|serve| serve.max_connections(connections)) }
    }

    /// Most connections of one user at once, 1 to 16,384; default 1,024 for the service's own user, 64 for each other. One
    /// more is refused with `ResourceExhausted`.
    pub fn max_connections_per_user(self, connections: u32) -> Self {
        Self { inner: self.inner.map(|serve| serve.max_connections_per_user(connections)) }
    }

    /// Calls in flight of one connection, rounded up to a power of two, up to 16,384; default 128. One more waits for its
    /// turn in the client. Each costs 256 bytes of shared memory.
    pub fn max_calls(self, calls: u32) -> Self {
        Self { inner: self.inner.map(|serve| serve.max_calls(calls)) }
    }

    /// Most bytes that one connection may have for large payloads in each direction, beyond what every lane has; up to
    /// 1 GiB, which is the default for the service's own user; 64 MiB for each other. A call that needs more is `ResourceExhausted`.
    pub fn max_bytes(self, bytes: usize) -> Self {
        Self { inner: self.inner.map(|serve| serve.max_bytes(bytes)) }
    }

    /// Whether isolated clients may hand over large requests as memory of their own, which the kernel has sealed against
    /// writing; off by default. Such a request is read in place: it takes no room of the service's, neither of what
    /// [`max_bytes`](Self::max_bytes) allows nor for a private copy.
    ///
    /// Requests come so from 16 MiB on, where it takes as long as copying, and smaller ones that `max_bytes` has no room for;
    /// up to 1 GiB each. The service then takes descriptors from clients, at most four at a time of each connection, and
    /// ends the connection of whoever sends anything else. Replies are copied as ever.
    pub fn accept_sealed(self, accept: bool) -> Self {
        Self { inner: self.inner.map(|serve| serve.accept_sealed(accept)) }
    }

    /// How far clients are trusted at most; default: as the [`Builder`] says. Clients of other users are always isolated,
    /// and a client may want to be trusted less.
    pub fn trust(self, trust: Trust) -> Self {
        Self { inner: self.inner.map(|serve| serve.trust(trust)) }
    }

    /// Starts the workers, then opens the door: from here on the name can be called.
    ///
    /// # Errors
    /// `InvalidArgument` if the address is no address; `AlreadyExists` if a live process serves this instance;
    /// `FailedPrecondition` if the runtime directory cannot be used; `ResourceExhausted` if memory, descriptors or
    /// threads ran out.
    pub fn start(self) -> Result<RunningService, Status> {
        self.inner?.start()
    }
}
