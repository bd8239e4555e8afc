"""The ASP.NET Core SignalR hub protocol without I/O: a state machine, and the policy of hubs and clients on top."""

from ._auth import Authorization, Policy, Principal, Requirement, authenticated
from ._binding import Binder, Shape
from ._call import Call, ConnectionInfo
from ._client_errors import (
    ConnectionFailed,
    ConnectionRefused,
    ConnectTimeout,
    Forbidden,
    HandshakeRefused,
    HostNotFound,
    LegacyServer,
    NoCommonTransport,
    NotAHub,
    NotConnected,
    ProtocolNotSupported,
    ProxyFailed,
    ReconnectFailed,
    ServerGone,
    TlsFailed,
    TokenFailed,
    Unauthorized,
)
from ._client_session import ClientSession, Handlers
from ._clients import (
    CallerClients,
    CallerGroups,
    Clients,
    Groups,
    HubContext,
    Registry,
    Selection,
    SingleClient,
    TypedCallerClients,
    TypedClients,
)
from ._codecs import Codec, JsonCodec, MessagePackCodec, TransferFormat
from ._codecs._naming import Rename
from ._config import HubConfig
from ._connection import HubConnection, Role
from ._effects import CancelCall, Effect, EffectQueue, StartCall, Wake
from ._errors import (
    EndOfStream,
    HubError,
    HubProtoError,
    LocalProtocolError,
    RemoteProtocolError,
    TransportError,
    WouldBlock,
)
from ._events import ConnectionClosed, Event, HandshakeCompleted
from ._filters import HubFilter, HubInvocation, Next
from ._hub import Hub
from ._hub_class import hub_method, on_connected, on_disconnected
from ._hub_proxies import HubContract, hub_contract_of
from ._hub_session import HubSession
from ._lifecycle import ClientEvent, Closed, Connected, Connecting, EventStream, Reconnected, Reconnecting
from ._messages import (
    Ack,
    CancelInvocation,
    Close,
    Completion,
    HubMessage,
    Invocation,
    InvocationBindingFailure,
    Ping,
    SequenceMessage,
    StreamBindingFailure,
    StreamInvocation,
    StreamItem,
)
from ._observer import ConnectionStatus, ObservedCall, ObservedConnection, Observer
from ._proxies import one_way, wire_name
from ._reconnect import ReconnectPolicy, Retry, RetryPolicy, retry_policy
from ._running import IncomingStream, OutgoingCall, Pending, RunningCall, Upload, Waiter
from ._session import Session
from ._states import ClientState
from ._transport import Transport
from ._values import ZERO_OFFSET, Char, Single

__version__ = "0.1.0.dev0"

__all__ = [
    "ZERO_OFFSET",
    "Ack",
    "Authorization",
    "Binder",
    "Call",
    "CallerClients",
    "CallerGroups",
    "CancelCall",
    "CancelInvocation",
    "Char",
    "ClientEvent",
    "ClientSession",
    "ClientState",
    "Clients",
    "Close",
    "Closed",
    "Codec",
    "Completion",
    "ConnectTimeout",
    "Connected",
    "Connecting",
    "ConnectionClosed",
    "ConnectionFailed",
    "ConnectionInfo",
    "ConnectionRefused",
    "ConnectionStatus",
    "Effect",
    "EffectQueue",
    "EndOfStream",
    "Event",
    "EventStream",
    "Forbidden",
    "Groups",
    "Handlers",
    "HandshakeCompleted",
    "HandshakeRefused",
    "HostNotFound",
    "Hub",
    "HubConfig",
    "HubConnection",
    "HubContext",
    "HubContract",
    "HubError",
    "HubFilter",
    "HubInvocation",
    "HubMessage",
    "HubProtoError",
    "HubSession",
    "IncomingStream",
    "Invocation",
    "InvocationBindingFailure",
    "JsonCodec",
    "LegacyServer",
    "LocalProtocolError",
    "MessagePackCodec",
    "Next",
    "NoCommonTransport",
    "NotAHub",
    "NotConnected",
    "ObservedCall",
    "ObservedConnection",
    "Observer",
    "OutgoingCall",
    "Pending",
    "Ping",
    "Policy",
    "Principal",
    "ProtocolNotSupported",
    "ProxyFailed",
    "ReconnectFailed",
    "ReconnectPolicy",
    "Reconnected",
    "Reconnecting",
    "Registry",
    "RemoteProtocolError",
    "Rename",
    "Requirement",
    "Retry",
    "RetryPolicy",
    "Role",
    "RunningCall",
    "Selection",
    "SequenceMessage",
    "ServerGone",
    "Session",
    "Shape",
    "Single",
    "SingleClient",
    "StartCall",
    "StreamBindingFailure",
    "StreamInvocation",
    "StreamItem",
    "TlsFailed",
    "TokenFailed",
    "TransferFormat",
    "Transport",
    "TransportError",
    "TypedCallerClients",
    "TypedClients",
    "Unauthorized",
    "Upload",
    "Waiter",
    "Wake",
    "WouldBlock",
    "authenticated",
    "hub_contract_of",
    "hub_method",
    "on_connected",
    "on_disconnected",
    "one_way",
    "retry_policy",
    "wire_name",
]
