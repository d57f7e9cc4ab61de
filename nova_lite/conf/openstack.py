"""[openstack]: the image, network and volume services of an OpenStack deployment, where these are used."""

from oslo_config import cfg

from nova_lite.conf.types import seconds


def options() -> list[tuple[str | None, list[cfg.Opt]]]:
    """Return the options of this module by group."""
    return [("openstack", [
        cfg.StrOpt("auth_url", help="Address of the identity service; without it the services are asked without a "
                   "token, which needs their addresses below."),
        cfg.StrOpt("username", help="Account of this service."),
        cfg.StrOpt("password", secret=True, help="Its password."),
        cfg.StrOpt("project_name", default="service", help="Its project."),
        cfg.StrOpt("user_domain_name", default="Default", help="Domain of the account."),
        cfg.StrOpt("project_domain_name", default="Default", help="Domain of the project."),
        cfg.StrOpt("region_name", help="Region of the catalogue."),
        cfg.StrOpt("interface", default="internal", choices=["public", "internal", "admin"],
                   help="Which addresses of the catalogue are used."),
        cfg.StrOpt("cafile", help="Certificates by which the services are known; the system's without it."),
        cfg.StrOpt("image_endpoint", help="Address of the image service with its version, such as "
                   "http://HOST:9292/v2, instead of the catalogue's."),
        cfg.StrOpt("network_endpoint", help="Address of the network service with its version, such as "
                   "http://HOST:9696/v2.0, instead of the catalogue's."),
        cfg.StrOpt("volume_endpoint", help="Address of the volume service with its version and project, such as "
                   "http://HOST:8776/v3/PROJECT_ID, instead of the catalogue's."),
        seconds("timeout", 60, "How long one request may take."),
        cfg.IntOpt("connect_retries", default=2, min=0, help="Further attempts to reach a service."),
    ])]
