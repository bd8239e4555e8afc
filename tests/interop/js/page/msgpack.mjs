export const { MessagePackHubProtocol } = globalThis.signalR.protocols.msgpack;
