//! Which instances this process serves, by directory and name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use service_core::{Address, ServiceName};

use super::Inside;
use crate::names::{parse_socket_name, socket_name};

type Key = (PathBuf, String);

static SERVED: Mutex<Option<HashMap<Key, Weak<Inside>>>> = Mutex::new(None);

fn served() -> MutexGuard<'static, Option<HashMap<Key, Weak<Inside>>>> {
    SERVED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An instance's entry; dropped, the instance is not found here any more.
pub(crate) struct Place {
    key: Key,
    inside: Arc<Inside>,
}

impl Place {
    /// Lets clients of this process find an instance. A directory's lock sees to it that there is one of a name.
    pub(crate) fn take(dir: PathBuf, name: String, inside: Arc<Inside>) -> Self {
        let key = (dir, name);
        served().get_or_insert_default().insert(key.clone(), Arc::downgrade(&inside));
        Self { key, inside }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut served = served();
        let Some(all) = served.as_mut() else { return };
        // A later instance of that name may have it by now.
        if all.get(&self.key).is_some_and(|there| std::ptr::eq(there.as_ptr(), Arc::as_ptr(&self.inside))) {
            all.remove(&self.key);
        }
    }
}

/// The instance of this process that serves an address in a directory; without an instance in the address, the first in the
/// order of names.
pub(crate) fn find(dir: &Path, address: &Address) -> Option<Arc<Inside>> {
    let served = served();
    let all = served.as_ref()?;
    if let Some(instance) = &address.instance {
        return all.get(&(dir.to_owned(), socket_name(&address.service, instance)))?.upgrade();
    }
    let is_of = |service: &ServiceName, name: &str| parse_socket_name(name).is_some_and(|(of, _)| of == *service);
    let here = all.iter().filter(|((place, name), _)| place == dir && is_of(&address.service, name));
    let (_, first) = here.min_by(|((_, one), _), ((_, other), _)| one.cmp(other))?;
    first.upgrade()
}
