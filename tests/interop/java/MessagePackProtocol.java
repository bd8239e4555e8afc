// The MessagePack hub protocol for Microsoft's Java client, whose own is in a library of its own (`signalr-messagepack`).
// Every value goes through Gson's tree: bytes are base64 there, a timestamp is ISO 8601.

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import com.microsoft.signalr.CancelInvocationMessage;
import com.microsoft.signalr.CloseMessage;
import com.microsoft.signalr.CompletionMessage;
import com.microsoft.signalr.HubMessage;
import com.microsoft.signalr.HubProtocol;
import com.microsoft.signalr.InvocationBinder;
import com.microsoft.signalr.InvocationBindingFailureMessage;
import com.microsoft.signalr.InvocationMessage;
import com.microsoft.signalr.PingMessage;
import com.microsoft.signalr.StreamBindingFailureMessage;
import com.microsoft.signalr.StreamItem;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.reflect.Type;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.msgpack.core.ExtensionTypeHeader;
import org.msgpack.core.MessageBufferPacker;
import org.msgpack.core.MessagePack;
import org.msgpack.core.MessagePacker;
import org.msgpack.core.MessageUnpacker;

final class MessagePackProtocol implements HubProtocol {
    private static final int INVOCATION = 1, STREAM_ITEM = 2, COMPLETION = 3, STREAM_INVOCATION = 4;
    private static final int CANCEL_INVOCATION = 5, PING = 6, CLOSE = 7;
    private static final int FAILED = 1, VOID = 2, RESULT = 3; // what a completion holds

    private final Gson gson = new GsonBuilder().serializeNulls().create();

    @Override
    public String getName() {
        return "messagepack";
    }

    @Override
    public int getVersion() {
        return 1;
    }

    // ------------------------------------------------------------------------------------------ reading

    @Override
    public List<HubMessage> parseMessages(ByteBuffer payload, InvocationBinder binder) {
        List<HubMessage> messages = new ArrayList<>();
        while (payload.hasRemaining()) {
            byte[] record = new byte[readLength(payload)];
            payload.get(record);
            try (MessageUnpacker unpacker = MessagePack.newDefaultUnpacker(record)) {
                HubMessage message = parse(unpacker, binder);
                if (message != null) messages.add(message);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }
        return messages;
    }

    private static int readLength(ByteBuffer payload) {
        int length = 0;
        for (int shift = 0; ; shift += 7) {
            byte next = payload.get();
            length |= (next & 0x7F) << shift;
            if (next >= 0) return length;
        }
    }

    /** Return the message, or null for one of an unknown type. */
    private HubMessage parse(MessageUnpacker in, InvocationBinder binder) throws IOException {
        int members = in.unpackArrayHeader();
        int type = in.unpackInt();
        if (type == PING) return PingMessage.getInstance();
        if (type == CLOSE) {
            String error = text(in);
            return new CloseMessage(error, members > 2 && in.unpackBoolean());
        }
        if (type != INVOCATION && type != STREAM_ITEM && type != COMPLETION) return null;
        Map<String, String> headers = headers(in);
        String id = text(in);
        if (type == INVOCATION) {
            String target = in.unpackString();
            JsonArray arguments = value(in).getAsJsonArray();
            try {
                return new InvocationMessage(headers, id, target, bind(arguments, binder.getParameterTypes(target)), null);
            } catch (RuntimeException error) {
                return new InvocationBindingFailureMessage(id, target, error);
            }
        }
        if (type == STREAM_ITEM) {
            try {
                return new StreamItem(headers, id, bind(value(in), binder.getReturnType(id)));
            } catch (RuntimeException error) {
                return new StreamBindingFailureMessage(id, error);
            }
        }
        switch (in.unpackInt()) {
            case FAILED:
                return new CompletionMessage(headers, id, null, in.unpackString());
            case VOID:
                return new CompletionMessage(headers, id, null, null);
            default:
                try {
                    return new CompletionMessage(headers, id, bind(value(in), binder.getReturnType(id)), null);
                } catch (RuntimeException error) {
                    return new CompletionMessage(headers, id, null, error.getMessage());
                }
        }
    }

    private Object[] bind(JsonArray arguments, List<Type> types) {
        if (arguments.size() != types.size()) {
            throw new IllegalArgumentException(arguments.size() + " arguments, not " + types.size());
        }
        Object[] bound = new Object[types.size()];
        for (int i = 0; i < bound.length; i++) bound[i] = bind(arguments.get(i), types.get(i));
        return bound;
    }

    private Object bind(JsonElement value, Type type) {
        return type == null ? null : gson.fromJson(value, type);
    }

    private static Map<String, String> headers(MessageUnpacker in) throws IOException {
        int count = in.unpackMapHeader();
        if (count == 0) return null;
        Map<String, String> headers = new HashMap<>();
        for (int i = 0; i < count; i++) headers.put(in.unpackString(), in.unpackString());
        return headers;
    }

    private static String text(MessageUnpacker in) throws IOException {
        return in.tryUnpackNil() ? null : in.unpackString();
    }

    private static JsonElement value(MessageUnpacker in) throws IOException {
        switch (in.getNextFormat().getValueType()) {
            case NIL:
                in.unpackNil();
                return JsonNull.INSTANCE;
            case BOOLEAN:
                return new JsonPrimitive(in.unpackBoolean());
            case INTEGER:
                return new JsonPrimitive(in.unpackBigInteger());
            case FLOAT:
                return new JsonPrimitive(in.unpackDouble());
            case STRING:
                return new JsonPrimitive(in.unpackString());
            case BINARY:
                return new JsonPrimitive(Base64.getEncoder().encodeToString(in.readPayload(in.unpackBinaryHeader())));
            case ARRAY: {
                JsonArray array = new JsonArray();
                for (int left = in.unpackArrayHeader(); left > 0; left--) array.add(value(in));
                return array;
            }
            case MAP: {
                JsonObject object = new JsonObject();
                for (int left = in.unpackMapHeader(); left > 0; left--) object.add(value(in).getAsString(), value(in));
                return object;
            }
            default: {
                ExtensionTypeHeader header = in.unpackExtensionTypeHeader();
                return new JsonPrimitive(in.unpackTimestamp(header).toString());
            }
        }
    }

    // ------------------------------------------------------------------------------------------ writing

    @Override
    public ByteBuffer writeMessage(HubMessage message) {
        try (MessageBufferPacker out = MessagePack.newDefaultBufferPacker()) {
            write(message, out);
            out.flush();
            byte[] record = out.toByteArray();
            ByteArrayOutputStream framed = new ByteArrayOutputStream(record.length + 5);
            int length = record.length;
            for (; length > 0x7F; length >>>= 7) framed.write(length & 0x7F | 0x80);
            framed.write(length);
            framed.write(record);
            return ByteBuffer.wrap(framed.toByteArray());
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private void write(HubMessage message, MessagePacker out) throws IOException {
        switch (message.getMessageType()) {
            case INVOCATION:
            case STREAM_INVOCATION: {
                InvocationMessage call = (InvocationMessage) message;
                begin(out, 6, message.getMessageType().value, call.getHeaders(), call.getInvocationId());
                out.packString(call.getTarget());
                write(gson.toJsonTree(call.getArguments()), out);
                Collection<String> streams = call.getStreamIds() == null ? List.of() : call.getStreamIds();
                out.packArrayHeader(streams.size());
                for (String stream : streams) out.packString(stream);
                return;
            }
            case STREAM_ITEM: {
                StreamItem item = (StreamItem) message;
                begin(out, 4, STREAM_ITEM, item.getHeaders(), item.getInvocationId());
                write(gson.toJsonTree(item.getItem()), out);
                return;
            }
            case COMPLETION: {
                CompletionMessage end = (CompletionMessage) message;
                int kind = end.getError() != null ? FAILED : end.getResult() != null ? RESULT : VOID;
                begin(out, kind == VOID ? 4 : 5, COMPLETION, end.getHeaders(), end.getInvocationId());
                out.packInt(kind);
                if (kind == FAILED) out.packString(end.getError());
                if (kind == RESULT) write(gson.toJsonTree(end.getResult()), out);
                return;
            }
            case CANCEL_INVOCATION: {
                CancelInvocationMessage cancel = (CancelInvocationMessage) message;
                begin(out, 3, CANCEL_INVOCATION, cancel.getHeaders(), cancel.getInvocationId());
                return;
            }
            case PING:
                out.packArrayHeader(1).packInt(PING);
                return;
            case CLOSE: {
                CloseMessage close = (CloseMessage) message;
                out.packArrayHeader(2).packInt(CLOSE);
                write(close.getError() == null ? JsonNull.INSTANCE : new JsonPrimitive(close.getError()), out);
                return;
            }
            default:
                throw new IllegalArgumentException("nobody sends a " + message.getMessageType());
        }
    }

    private static void begin(MessagePacker out, int members, int type, Map<String, String> headers, String id)
        throws IOException {
        Map<String, String> pairs = headers == null ? Map.of() : headers;
        out.packArrayHeader(members).packInt(type).packMapHeader(pairs.size());
        for (Map.Entry<String, String> pair : pairs.entrySet()) {
            out.packString(pair.getKey()).packString(pair.getValue());
        }
        if (id == null) out.packNil();
        else out.packString(id);
    }

    private static void write(JsonElement value, MessagePacker out) throws IOException {
        if (value.isJsonNull()) {
            out.packNil();
        } else if (value.isJsonArray()) {
            out.packArrayHeader(value.getAsJsonArray().size());
            for (JsonElement item : value.getAsJsonArray()) write(item, out);
        } else if (value.isJsonObject()) {
            out.packMapHeader(value.getAsJsonObject().size());
            for (Map.Entry<String, JsonElement> member : value.getAsJsonObject().entrySet()) {
                out.packString(member.getKey());
                write(member.getValue(), out);
            }
        } else if (value.getAsJsonPrimitive().isBoolean()) {
            out.packBoolean(value.getAsBoolean());
        } else if (value.getAsJsonPrimitive().isString()) {
            out.packString(value.getAsString());
        } else {
            write(value.getAsBigDecimal(), out);
        }
    }

    private static void write(BigDecimal number, MessagePacker out) throws IOException {
        if (number.scale() > 0) {
            out.packDouble(number.doubleValue());
            return;
        }
        BigInteger whole = number.toBigIntegerExact();
        if (whole.bitLength() < 64) out.packLong(whole.longValue());
        else out.packBigInteger(whole);
    }
}
