import pytest
from hypothesis import given
from hypothesis import strategies as st

from spooled_pipelines.errors import InvalidArgumentError
from spooled_pipelines.rpc.address import parse_address


@pytest.mark.parametrize(
    ("text", "target", "is_local"),
    [
        ("localhost", "localhost:50051", True),
        ("LocalHost:7", "LocalHost:7", True),
        ("127.0.0.1:50051", "127.0.0.1:50051", True),
        ("[::1]:50051", "[::1]:50051", True),
        ("[::1]", "[::1]:50051", True),
        ("::1", "[::1]:50051", True),
        ("fe80::1", "[fe80::1]:50051", False),
        ("queue.example.org", "queue.example.org:50051", False),
        ("queue.example.org:443", "queue.example.org:443", False),
        ("127.0.0.1.example.org:1", "127.0.0.1.example.org:1", False),
        ("grpc.spooled.cloud", "grpc.spooled.cloud:443", False),
        ("grpc.spooled.cloud:8443", "grpc.spooled.cloud:8443", False),
        ("dns:///queue.example.org", "dns:///queue.example.org:50051", False),
        ("dns:///localhost:1", "dns:///localhost:1", True),
        ("dns://8.8.8.8/queue.example.org:1", "dns://8.8.8.8/queue.example.org:1", False),
        ("dns:queue.example.org:1", "dns:queue.example.org:1", False),
        ("ipv4:127.0.0.1:1", "ipv4:127.0.0.1:1", True),
        ("ipv6:[::1]:1", "ipv6:[::1]:1", True),
        ("unix:/run/spooled.sock", "unix:/run/spooled.sock", True),
        ("unix:///run/spooled.sock", "unix:///run/spooled.sock", True),
        ("  localhost:1 ", "localhost:1", True),
        ("127.0.0.1:1,127.0.0.1:2", "ipv4:127.0.0.1:1,127.0.0.1:2", True),
        ("ipv4:127.0.0.1:1, 10.0.0.2", "ipv4:127.0.0.1:1,10.0.0.2:50051", False),
        ("[::1]:1,[fe80::1]:2", "ipv6:[::1]:1,[fe80::1]:2", False),
    ],
)
def test_an_address_is_read_as_people_write_it(text: str, target: str, is_local: bool) -> None:
    address = parse_address(text)
    assert (address.target, address.is_local) == (target, is_local)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        (":50051", "the host is missing"),
        ("localhost:", "port behind the colon is missing"),
        ("[::1]:", "port behind the colon is missing"),
        ("localhost:http", "port must be a number from 1 to 65535, got 'http'"),
        ("localhost:0", "got '0'"),
        ("localhost:65536", "from 1 to 65535"),
        ("localhost:٣", "port must be"),
        ("[::1", "[::1]:50051"),
        ("https://queue.example.org", "without https://"),
        ("http://localhost:1", "without http://"),
        ("user@host:1", "is not a host name"),
        ("two words:1", "is not a host name"),
        ("unix:", "path of the socket"),
        ("ipv4", "dns:///ipv4:50051"),
        ("10.0.0.1:1,", "the host is missing"),
        ("10.0.0.1:1,queue.example.org", "'queue.example.org' is not an IP address"),
        ("10.0.0.1:1,[::1]:1", "cannot be in one list"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_address(text)
    assert why in caught.value.message


@given(st.text())
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except InvalidArgumentError:
        return
    assert parse_address(address.target).target == address.target
