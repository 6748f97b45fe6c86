//! From addresses to socket names and back.

use service_core::{Address, InstanceId, Namespace, ServiceName};

/// Name of an instance's socket, without the suffix.
pub(crate) fn socket_name(service: &ServiceName, instance: &InstanceId) -> String {
    format!("{service}@{instance}")
}

/// The service and instance that a socket's name stands for; `None` for files of other kinds.
pub(crate) fn parse_socket_name(name: &str) -> Option<(ServiceName, InstanceId)> {
    let (service, instance) = name.split_once('@')?;
    Some((service.parse().ok()?, instance.parse().ok()?))
}

/// The full address of an instance.
pub(crate) fn address_of(namespace: &Namespace, service: ServiceName, instance: InstanceId) -> Address {
    Address { namespace: Some(namespace.clone()), service, instance: Some(instance) }
}
