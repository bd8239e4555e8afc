// The client as pages load it, from one file, as a module.
export const {
    HttpTransportType, HubConnectionBuilder, HubConnectionState, JsonHubProtocol, LogLevel, Subject,
} = globalThis.signalR;
