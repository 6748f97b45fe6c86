//! Everything that can go wrong in this crate, by what the caller can do about it.

use std::io;

#[cfg(not(loom))]
use rustix::io::Errno;

/// Why an operation on shared memory or on a rendezvous failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused memory or descriptors. Free some, or ask for less.
    #[error("the system has no room for {what}{}: {source}{}", of_bytes(*bytes), more_of_it(source))]
    ResourceExhausted {
        /// What was being made.
        what: &'static str,
        /// Bytes asked for; zero if it is not about bytes.
        bytes: usize,
        /// The system's answer.
        source: io::Error,
    },
    /// The other side was built with another version of the memory layout. Update one of the two.
    #[error("layout version of the segment is {theirs}, this program has {ours}")]
    LayoutVersion {
        /// Version of this program.
        ours: u32,
        /// Version in the segment.
        theirs: u32,
    },
    /// A descriptor or the memory behind it is not what it was announced as. The connection is of no use.
    #[error("segment refused: {what} is {found:#x}, expected {expected:#x}")]
    BadSegment {
        /// The property that is wrong.
        what: &'static str,
        /// What was found.
        found: u64,
        /// What a valid segment has.
        expected: u64,
    },
    /// No segment stands there. Let somebody make it, or check the name.
    #[error("no segment at {place}")]
    NoSegment {
        /// Where it was looked for.
        place: String,
    },
    /// The place of a segment is in use and cannot be given to another. End its users, remove what is there, or take
    /// another place.
    #[error("{place} is taken: {why}")]
    Taken {
        /// The place.
        place: String,
        /// By what.
        why: &'static str,
    },
    /// A place for a segment cannot have that name. Choose another.
    #[error("`{name}` cannot name a segment: {why}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A word written by the peer has an impossible value: the peer is broken or hostile. End the connection.
    #[error("peer wrote an impossible {what}: {found:#x} at {at}")]
    Corrupt {
        /// The word.
        what: &'static str,
        /// Its value.
        found: u64,
        /// Its index or position.
        at: u64,
    },
    /// The payload can never fit. Make it smaller, or the limit larger.
    #[error("payload of {len} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes of the payload.
        len: usize,
        /// Largest payload possible here.
        limit: usize,
    },
    /// The two sides disagree about the type of the messages. Build both from the same definition.
    #[error("messages here are {ours}, those of the other side are {theirs}")]
    TypeMismatch {
        /// Description of this side's type.
        ours: String,
        /// Description of the other side's, as it wrote it.
        theirs: String,
    },
    /// Nobody serves at that name. Start the service, or check the name and the runtime directory.
    #[error("nobody listens at `{name}` in {dir}")]
    NotFound {
        /// Name of the socket.
        name: String,
        /// The runtime directory.
        dir: String,
    },
    /// No process has that number. It has ended, or the number is of another namespace.
    #[error("there is no process {pid}")]
    NoProcess {
        /// The number.
        pid: u32,
    },
    /// A live process serves at that name already.
    #[error("`{name}` is already served by process {pid}")]
    AlreadyServed {
        /// Name of the socket.
        name: String,
        /// The process that listens there.
        pid: u32,
    },
    /// An event loop of this process waits for that side of the ring already. Share its
    /// [`Pollable`](crate::Pollable), or wait by tasks, of which there may be many.
    #[error("an event loop waits for this side of the ring already")]
    AlreadyPolled,
    /// Tasks and event loops cannot wait here: the end was made without an eventfd. Wait by a thread, or make it with
    /// [`Events`](crate::Events).
    #[error("tasks and event loops cannot wait here: no {missing}")]
    CannotWait {
        /// What is missing.
        missing: &'static str,
    },
    /// That end of the ring has, or had, an owner. A ring has one producer and one consumer for life: make another.
    #[error("the ring's {role} is process {pid}")]
    AlreadyAttached {
        /// The end.
        role: &'static str,
        /// The process that attached first.
        pid: u32,
    },
    /// All lanes of the queue are taken. Close some senders, or create the queue for more producers.
    #[error("the queue has {limit} producers and takes no more")]
    TooManyProducers {
        /// Most producers at a time.
        limit: u32,
    },
    /// The text names no queue.
    #[error("`{text}` cannot name a queue: {why}")]
    BadAddress {
        /// The text, or its beginning.
        text: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The runtime directory cannot be used: missing rights, not a directory, or somebody else's.
    #[error("runtime directory {dir} cannot be used: {why}")]
    RuntimeDir {
        /// The directory.
        dir: String,
        /// What is wrong with it.
        why: String,
    },
    /// A copy of a handle, in a child made by fork: the memory behind it is the parent's alone. Make or open it again in
    /// the child, and fork before, not after, where that can be chosen.
    #[error("{what} belongs to the process that forked this one: open it again in the child")]
    ForkedHandle {
        /// What the handle leads to.
        what: &'static str,
    },
    /// The other end of the socket is gone.
    #[error("peer closed the connection during {during}")]
    Closed {
        /// What was under way.
        during: &'static str,
    },
    /// What came over the socket is not what the protocol sends.
    #[error("unexpected message during {during}: {what}")]
    BadMessage {
        /// What was under way.
        during: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// Any other answer of the system.
    #[error("{what} failed: {source}")]
    System {
        /// The operation.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// Why a frame could not be claimed. Nothing was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// The consumer has not given back enough room yet. Wait for it, or try again later.
    #[error("ring is full: {needed} bytes needed, {free} free")]
    Full {
        /// Bytes that the frame takes, header and padding included.
        needed: usize,
        /// Bytes free for one frame at this moment.
        free: usize,
    },
    /// The payload can never fit, however empty the ring is. Make it smaller, or the ring larger.
    #[error("payload of {len} bytes is over the limit of {limit}")]
    TooLarge {
        /// Bytes of the payload.
        len: usize,
        /// Largest payload possible here.
        limit: usize,
    },
    /// The consumer is gone, or either side closed the ring: nothing sent from now on would be read.
    #[error("ring is closed")]
    Closed,
    /// This is a child made by fork, and the end is its parent's, who goes on with it. Open the ring again in the child.
    #[error("this end of the ring belongs to the process that forked this one: open it again in the child")]
    ForkedHandle,
    /// The deadline passed while the ring was full.
    #[error("deadline passed while the ring was full: {needed} bytes needed, {free} free")]
    TimedOut {
        /// Bytes that the frame takes.
        needed: usize,
        /// Bytes free for one frame at the deadline.
        free: usize,
    },
    /// A task cannot wait for room here: the end was made without an eventfd, or the process can have no reactor. Wait by
    /// a thread, make the end with [`Events`](crate::Events), or free descriptors.
    #[error("a task cannot wait for room: no {missing}")]
    CannotWait {
        /// What is missing.
        missing: &'static str,
    },
    /// The consumer wrote an impossible word: it is broken or hostile. Give the ring up.
    #[error("consumer wrote an impossible {what}: {found:#x}")]
    Corrupt {
        /// The word.
        what: &'static str,
        /// Its value.
        found: u64,
    },
}

/// Why no frame was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// Nothing is there at this moment.
    #[error("ring is empty")]
    Empty,
    /// The deadline passed while the ring was empty.
    #[error("deadline passed while the ring was empty")]
    TimedOut,
    /// This is a child made by fork, and the end is its parent's, who goes on with it. Open the ring again in the child.
    #[error("this end of the ring belongs to the process that forked this one: open it again in the child")]
    ForkedHandle,
    /// The ring is closed and every frame that was committed has been received.
    #[error("ring is closed")]
    Closed,
    /// A task cannot wait for frames here: the end was made without an eventfd, or the process can have no reactor. Wait
    /// by a thread, make the end with [`Events`](crate::Events), or free descriptors.
    #[error("a task cannot wait for frames: no {missing}")]
    CannotWait {
        /// What is missing.
        missing: &'static str,
    },
    /// The producer wrote an impossible word: it is broken or hostile. Give the ring up.
    #[error("producer wrote an impossible {what}: {found:#x} at {at}")]
    Corrupt {
        /// The word.
        what: &'static str,
        /// Its value.
        found: u64,
        /// Its position.
        at: u64,
    },
}

#[cfg(not(loom))]
impl Error {
    pub(crate) fn system(what: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::of_answer(what, 0, errno)
    }

    /// Sorts the system's answers: there is no more of something, or something else is wrong.
    pub(crate) fn of_answer(what: &'static str, bytes: usize, errno: Errno) -> Self {
        let source = errno.into();
        if is_exhaustion(errno) {
            Self::ResourceExhausted { what, bytes, source }
        } else {
            Self::System { what, source }
        }
    }
}

/// Whether it means that there is no more of something.
#[cfg(not(loom))]
pub(crate) fn is_exhaustion(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOSPC
            | Errno::NOMEM
            | Errno::NOBUFS
            | Errno::DQUOT
            | Errno::FBIG
            | Errno::MFILE
            | Errno::NFILE
            | Errno::TOOMANYREFS
    )
}

fn of_bytes(bytes: usize) -> String {
    if bytes == 0 { String::new() } else { format!(" of {bytes} bytes") }
}

/// Where more of it is to be had.
fn more_of_it(source: &io::Error) -> &'static str {
    #[cfg(not(loom))]
    return match Errno::from_io_error(source) {
        Some(Errno::MFILE) => "; close some, or raise the process's limit of open files (ulimit -n)",
        Some(Errno::NFILE) => "; raise the machine's limit of open files (fs.file-max)",
        Some(Errno::NOMEM) => "; free memory, or raise the limits of memory and of mappings (vm.max_map_count)",
        Some(Errno::NOSPC | Errno::DQUOT) => "; free space on that file system",
        Some(Errno::FBIG) => "; make it smaller, or raise the process's limit of a file's size (ulimit -f)",
        _ => "",
    };
    #[cfg(loom)]
    {
        let _ = source;
        ""
    }
}
