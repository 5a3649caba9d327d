"""Reports stay in the house: which addresses may be sent to.

Without asking: this machine and private networks, by number (a name may lead
anywhere tomorrow). Every other server must be allowed by its name.
"""

import ipaddress
import urllib.parse
from collections.abc import Collection

from data_pipelines.errors import PrepareError

_LOCAL = tuple(ipaddress.ip_network(network) for network in (
    "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16",
    "::1/128", "fc00::/7"))


def check(base_url: str, allowed: Collection[str]):
  """Raises PrepareError where `base_url` leads out and is not allowed."""
  try:
    url = urllib.parse.urlsplit(base_url)
    host, _ = url.hostname, url.port
  except ValueError:
    host = None
  if not host or url.scheme not in ("http", "https"):
    raise PrepareError("The base URL of the chat server is none; want one such "
                       "as http://localhost:8000/v1.")
  if "@" in url.netloc or url.query or url.fragment:
    raise PrepareError(
        "The base URL of the chat server holds more than an address; give a "
        "key by the name of its environment variable.")
  # What one library reads as the host, another may not.
  if not (url.netloc.isascii() and all(
      c.isalnum() or c in ".-:[]_" for c in url.netloc)):
    raise PrepareError("The base URL of the chat server has odd characters in "
                       "its host; write the host's plain name.")
  if not is_local(host) and host not in {name.lower() for name in allowed}:
    raise PrepareError(
        f"The chat server {host} is not on this machine or a private network, "
        "and reports would leave the house. Where their licence allows that, "
        f"say --allow_host={host}.")


def is_local(host: str) -> bool:
  """host: lower case, without port and brackets."""
  if host == "localhost":
    return True
  try:
    address = ipaddress.ip_address(host)
  except ValueError:
    return False
  address = getattr(address, "ipv4_mapped", None) or address
  return any(address in network for network in _LOCAL)
