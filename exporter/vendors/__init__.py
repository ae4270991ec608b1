"""One folder per vendor: listing this one lists what is supported."""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from exporter.vendorkit.contract import Vendor


@cache
def load_all() -> dict[str, Vendor]:
    """Returns every vendor by its name, found by its folder."""
    modules = (import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__) if found.ispkg)
    return {module.VENDOR.name: module.VENDOR for module in modules}
