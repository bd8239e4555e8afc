// Microsoft's Java SignalR client against a server under test, one PASS or FAIL line a check.
// usage: java -cp 'lib/*:lib/checks' Checks URL ws|lp json|messagepack [--only TEXT]
// URL is that of the lab hub; "serialhub" beside it runs one call at a time, "securehub" wants a token.
// LAB_KEEPALIVE and LAB_TIMEOUT (seconds) are what the server was started with; DEBUG=1 prints the client's trace.

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.microsoft.signalr.HttpHubConnectionBuilder;
import com.microsoft.signalr.HubConnection;
import com.microsoft.signalr.HubConnectionBuilder;
import com.microsoft.signalr.HubConnectionState;
import com.microsoft.signalr.Subscription;
import com.microsoft.signalr.TransportEnum;
import com.microsoft.signalr.TypeReference;
import io.reactivex.rxjava3.core.Observable;
import io.reactivex.rxjava3.core.Single;
import io.reactivex.rxjava3.disposables.Disposable;
import io.reactivex.rxjava3.plugins.RxJavaPlugins;
import io.reactivex.rxjava3.subjects.ReplaySubject;
import io.reactivex.rxjava3.subjects.SingleSubject;
import java.io.IOException;
import java.time.Duration;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import okhttp3.Call;
import okhttp3.EventListener;
import okhttp3.OkHttpClient;

public class Checks {
    interface Body {
        void run(HubConnection connection) throws Exception;
    }

    interface Act {
        void run() throws Exception;
    }

    record Point(double x, double y, String label) {}

    /** What a stream gave: its items, and the text of the error that it ended with. */
    record Streamed<T>(List<T> items, String error) {}

    /** A connection that tells how it was closed; empty stands for "in order". */
    record Own(HubConnection connection, CompletableFuture<Optional<String>> closed) {}

    static final Map<String, Body> checks = new LinkedHashMap<>();
    static final long LIMIT = 8; // seconds for each thing that is waited for

    static String url, serialUrl, secureUrl;
    static TransportEnum transport;
    static boolean json; // the protocol; else MessagePack
    static long keepAlive, timeout; // milliseconds

    // ------------------------------------------------------------------------------------------ tools

    static void check(String name, Body body) {
        if (checks.put(name, body) != null) throw new IllegalStateException("two checks are called " + name);
    }

    static void same(Object got, Object wanted) {
        if (!Objects.equals(got, wanted)) throw new AssertionError("got " + got + ", not " + wanted);
    }

    static void holds(boolean condition, String what) {
        if (!condition) throw new AssertionError(what);
    }

    static String masked(String target) {
        return "An unexpected error occurred invoking '" + target + "' on the server.";
    }

    static String failed(String target) {
        return "Failed to invoke '" + target + "' due to an error on the server.";
    }

    static final String STREAM_FAILED = "An error occurred on the server while streaming results.";

    static List<Integer> range(int from, int to) {
        return IntStream.range(from, to).boxed().collect(Collectors.toList());
    }

    static Own build(String to, UnaryOperator<HttpHubConnectionBuilder> how) {
        HttpHubConnectionBuilder builder = HubConnectionBuilder.create(to)
            .withTransport(transport)
            .withKeepAliveInterval(timeout / 4)
            .withServerTimeout(Math.max(5 * keepAlive / 2, 2000));
        if (!json) builder.withHubProtocol(new MessagePackProtocol());
        if (transport == TransportEnum.LONG_POLLING) builder.setHttpClientBuilderCallback(Checks::inOrder);
        HubConnection connection = how.apply(builder).build();
        CompletableFuture<Optional<String>> closed = new CompletableFuture<>();
        connection.onClosed(error -> closed.complete(Optional.ofNullable(error).map(Throwable::getMessage)));
        return new Own(connection, closed);
    }

    /**
     * Let each POST wait for the answer to the one before. The client sends them side by side, so that messages
     * overtake each other under long polling, and no server can put the items of an upload in order again.
     */
    static void inOrder(OkHttpClient.Builder builder) {
        Semaphore turn = new Semaphore(1);
        builder.eventListener(new EventListener() {
            @Override
            public void callStart(Call call) { // by whom the client is told to send
                if (isPost(call)) turn.acquireUninterruptibly();
            }

            @Override
            public void callEnd(Call call) {
                if (isPost(call)) turn.release();
            }

            @Override
            public void callFailed(Call call, IOException error) {
                if (isPost(call)) turn.release();
            }

            boolean isPost(Call call) {
                return call.request().method().equals("POST");
            }
        });
    }

    static void start(HubConnection connection) {
        holds(connection.start().blockingAwait(LIMIT, TimeUnit.SECONDS), "it did not start");
    }

    static void stop(HubConnection connection) {
        holds(connection.stop().blockingAwait(LIMIT, TimeUnit.SECONDS), "it did not stop");
    }

    interface OwnBody {
        void run(HubConnection connection, CompletableFuture<Optional<String>> closed) throws Exception;
    }

    /** Run `body` with a connection of its own, which is stopped afterwards. */
    static void using(String to, UnaryOperator<HttpHubConnectionBuilder> how, OwnBody body) throws Exception {
        Own own = build(to, how);
        start(own.connection);
        try {
            body.run(own.connection, own.closed);
        } finally {
            stop(own.connection);
        }
    }

    static void using(OwnBody body) throws Exception {
        using(url, UnaryOperator.identity(), body);
    }

    /** Run `body` with a connection of this user. */
    static void as(String user, Body body) throws Exception {
        using(secureUrl, b -> b.withAccessTokenProvider(Single.just("token-" + user)), (c, closed) -> body.run(c));
    }

    static <T> T get(Single<T> single) {
        return single.timeout(LIMIT, TimeUnit.SECONDS).blockingGet();
    }

    static <T> T get(CompletableFuture<T> future) throws Exception {
        return future.get(LIMIT, TimeUnit.SECONDS);
    }

    static void done(HubConnection c, String method, Object... arguments) {
        holds(c.invoke(method, arguments).blockingAwait(LIMIT, TimeUnit.SECONDS), method + " did not complete");
    }

    /** Under long polling the last poll may meet the client's own DELETE: it takes its 404 for an error. */
    static void endsInOrder(CompletableFuture<Optional<String>> closed) throws Exception {
        Optional<String> error = get(closed);
        if (transport == TransportEnum.LONG_POLLING) error = error.filter(text -> !text.contains("response code 404"));
        same(error, Optional.empty());
    }

    static String rejection(Act act) throws Exception {
        try {
            act.run();
        } catch (RuntimeException error) {
            return error.getMessage();
        }
        throw new AssertionError("there was no error");
    }

    static void alive(HubConnection c) {
        same(get(c.invoke(Integer.class, "Add", 4, 5)), 9);
    }

    static <T> Streamed<T> collect(Observable<T> stream) {
        List<T> items = Collections.synchronizedList(new ArrayList<>());
        CompletableFuture<String> end = new CompletableFuture<>();
        stream.subscribe(items::add, error -> end.complete(error.getMessage()), () -> end.complete(null));
        try {
            String error = get(end);
            return new Streamed<>(new ArrayList<>(items), error);
        } catch (Exception late) {
            throw new AssertionError("the stream did not end; it gave " + items.size() + " items");
        }
    }

    /** Subscribe, and dispose when some items have come; the stream must not have ended by then. */
    static <T> List<T> takeThenDispose(Observable<T> stream, int count) throws Exception {
        List<T> items = Collections.synchronizedList(new ArrayList<>());
        CompletableFuture<Void> enough = new CompletableFuture<>();
        Disposable subscription = stream.subscribe(item -> {
            items.add(item);
            if (items.size() == count) enough.complete(null);
        }, enough::completeExceptionally, () -> enough.completeExceptionally(new AssertionError("the stream ended")));
        get(enough);
        subscription.dispose();
        return items.subList(0, count);
    }

    static int cancelled(HubConnection c) {
        Single<Map<String, Integer>> stats = c.invoke(new TypeReference<Map<String, Integer>>() {}.getType(), "Stats");
        return get(stats).get("cancelled");
    }

    /** Ask until the server has seen one more stream cancelled. */
    static void cancellation(HubConnection c, int before) {
        long start = System.nanoTime();
        while (cancelled(c) == before) {
            holds(System.nanoTime() - start < 3_000_000_000L, "the stream goes on on the server");
        }
    }

    static Map<String, String> whoAmI(HubConnection c) {
        return get(c.invoke(new TypeReference<Map<String, String>>() {}.getType(), "WhoAmI"));
    }

    /** Everything that a client method with one argument was called with. */
    static List<String> heard(HubConnection c, String name) {
        List<String> calls = Collections.synchronizedList(new ArrayList<>());
        c.on(name, calls::add, String.class);
        return calls;
    }

    interface Answer {
        Single<String> to(String question);
    }

    /** Run `body` while the connection answers AskMe so. */
    static void answering(HubConnection c, Answer answer, Act body) throws Exception {
        Subscription subscription = c.onWithResult("AskMe", answer::to, String.class);
        try {
            body.run();
        } finally {
            subscription.unsubscribe();
        }
    }

    static final String ZOO = String.join("", "{",
        "'flag':true,'small':200,'short':-300,'int':70000,'long':9007199254740993,'uLong':18446744073709551615,",
        "'float':1.5,'double':0.1,'decimal':79.9900,'char':'ж','text':'naïve ☃ 😀','bytes':'AAH+/w==',",
        "'guid':'0f8fad5b-d9cb-469f-a165-70867728950e','utc':'2024-02-29T12:34:56.789Z',",
        "'unspecified':'2024-02-29T12:34:56','offset':'2024-02-29T12:34:56+05:30','span':'1.02:03:04.5000000',",
        "'day':'2024-02-29','clock':'12:34:56.7890000','color':6,'nothing':null,'numbers':[1,2,3],'names':['a','b'],",
        "'counts':{'One':1,'two':2},'byNumber':{'7':'seven'},'link':'https://example.org/a?b=c',",
        "'inner':{'x':1,'y':-2,'label':'p'},'anything':{'k':1}}").replace('\'', '"');

    /** The same in MessagePack, as `MessagePackProtocol` reads what .NET makes of it. */
    static final String BINARY_ZOO = String.join("", "{",
        "'Flag':true,'Small':200,'Short':-300,'Int':70000,'Long':9007199254740993,'ULong':18446744073709551615,",
        "'Float':1.5,'Double':0.1,'Decimal':'79.9900','Char':1078,'Text':'naïve ☃ 😀','Bytes':'AAH+/w==',",
        "'Guid':'0f8fad5b-d9cb-469f-a165-70867728950e','Utc':'2024-02-29T12:34:56.789Z',",
        "'Unspecified':'2024-02-29T12:34:56Z','Offset':['2024-02-29T12:34:56Z',330],'Span':937845000000,",
        "'Day':738944,'Clock':452967890000,'Color':'Blue','Nothing':null,'Numbers':[1,2,3],'Names':['a','b'],",
        "'Counts':{'One':1,'two':2},'ByNumber':{'7':'seven'},'Link':'https://example.org/a?b=c',",
        "'Inner':{'X':1.0,'Y':-2.0,'Label':'p'},'Anything':{'k':1}}").replace('\'', '"');

    static JsonObject zoo() {
        return JsonParser.parseString(json ? ZOO : BINARY_ZOO).getAsJsonObject();
    }

    // ------------------------------------------------------------------------------------------ calls

    static void calls() {
        for (String text : List.of("plain", "", "naïve ☃ 😀 𝄞 \u2028 \u0000 \"\\ <&>='")) {
            check("echo of text of " + text.length(), c -> same(get(c.invoke(String.class, "Echo", text)), text));
        }
        for (String json : List.of("{\"Name\":\"n\",\"inner\":{\"list\":[1,-2.5,true,false,null,\"😀\"],\"empty\":{}}}",
            "[[],[1,[2]],{}]", "1099511627776", "0.1", "true")) {
            JsonElement value = JsonParser.parseString(json);
            check("echo of " + json, c ->
                same(get(c.invoke(JsonElement.class, "Echo", value)).toString(), value.toString()));
        }
        check("null as an argument and as a result", c -> done(c, "Echo", (Object) null));
        check("typed object", c -> same(get(c.invoke(JsonObject.class, "MovePoint", point(1, 2.5), 10, -1)).toString(),
            json ? "{\"x\":11,\"y\":1.5,\"label\":\"p\"}" : "{\"X\":11.0,\"Y\":1.5,\"Label\":\"p\"}"));
        check("method name in another case", c -> same(get(c.invoke(Integer.class, "aDD", 2, 3)), 5));
        check("method of another name", c -> same(get(c.invoke(String.class, "renamed.method")), "renamed"));
        check("void result", c -> done(c, "Nothing"));
        check("bytes", c -> same(get(c.invoke(String.class, "Bytes", 5)), "AAECAwQ="));
        check("date with its offset", c -> {
            JsonElement said = get(c.invoke(JsonElement.class, "Now"));
            if (!json) same(said.getAsJsonArray().get(1).getAsInt(), 0); // minutes
            OffsetDateTime now = OffsetDateTime.parse((json ? said : said.getAsJsonArray().get(0)).getAsString());
            holds(Duration.between(now, OffsetDateTime.now()).abs().toSeconds() < 60, now.toString());
            same(now.getOffset(), ZoneOffset.UTC);
        });
        check("a value of every type", c ->
            same(get(c.invoke(JsonObject.class, "MakeZoo")).toString(), zoo().toString()));
        if (json) check("a value of every type, there and back", c -> { // bytes and times are texts in our MessagePack
            same(get(c.invoke(JsonObject.class, "EchoZoo", zoo())).toString(), zoo().toString());
            same(get(c.invoke(String.class, "SameZoo", zoo())), "");
        });
        check("100 invocations in flight", c -> {
            List<Single<Integer>> sums = new ArrayList<>();
            for (int i : range(0, 100)) sums.add(c.invoke(Integer.class, "Add", i, 1));
            same(sums.stream().map(Checks::get).collect(Collectors.toList()), range(1, 101));
        });
        check("out of order where the limit allows", c -> same(order(c), List.of("2", "slept 300")));
        check("in order where one call runs at a time", x ->
            using(serialUrl, UnaryOperator.identity(), (c, closed) -> same(order(c), List.of("slept 300", "2"))));
        check("big message down", c -> same(get(c.invoke(String.class, "Big", 500_000)), "x".repeat(500_000)));
        check("31k message up", c -> same(get(c.invoke(Integer.class, "Length", "y".repeat(31_000))), 31_000));
    }

    static JsonElement point(double x, double y) {
        String text = "{\"x\":" + x + ",\"y\":" + y + ",\"label\":\"p\"}";
        return JsonParser.parseString(json ? text : text.replace("x", "X").replace("y", "Y").replace("label", "Label"));
    }

    static List<String> order(HubConnection c) throws Exception {
        List<String> order = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch both = new CountDownLatch(2);
        c.invoke(String.class, "Slow", 300).doFinally(both::countDown).subscribe(order::add, error -> { });
        c.invoke(Integer.class, "Add", 1, 1).doFinally(both::countDown)
            .subscribe(sum -> order.add(sum.toString()), error -> { });
        holds(both.await(LIMIT, TimeUnit.SECONDS), "one of two calls was not answered");
        return order;
    }

    // ------------------------------------------------------------------------------------------ errors

    interface Attempt {
        void on(HubConnection c);
    }

    static void refused(String name, Attempt attempt, String text) {
        check(name, c -> {
            same(rejection(() -> attempt.on(c)), text);
            alive(c);
        });
    }

    static void refusedStream(String name, String text, String method, Object... arguments) {
        check(name, c -> {
            same(collect(c.stream(Integer.class, method, arguments)), new Streamed<>(List.of(), text));
            alive(c);
        });
    }

    static void errors() {
        refused("ordinary exception is masked", c -> done(c, "Throw"), masked("Throw"));
        refused("hub error is passed on", c -> done(c, "ThrowHubException"),
            masked("ThrowHubException") + " HubException: told to the client");
        refused("unknown method", c -> done(c, "NoSuch", 1),
            failed("NoSuch") + " HubException: Method does not exist.");
        refused("too few arguments", c -> done(c, "Add", 1), failed("Add"));
        refused("too many arguments", c -> done(c, "Add", 1, 2, 3), failed("Add"));
        refused("wrong type", c -> done(c, "Add", "x", 1), failed("Add"));
        refused("streaming method called plainly", c -> done(c, "Counter", 2, 0),
            "The client attempted to invoke the streaming 'Counter' method with a non-streaming invocation.");
        refusedStream("plain method called as a stream",
            "The client attempted to invoke the non-streaming 'Add' method with a streaming invocation.", "Add", 1, 2);
        refusedStream("unknown streaming method", failed("NoSuch") + " HubException: Method does not exist.", "NoSuch");
        refusedStream("stream with a wrong argument", failed("Counter"), "Counter", "x", 0);
        refusedStream("stream that fails at once", STREAM_FAILED + " HubException: stream broke", "FailingStream", 0);
    }

    // ------------------------------------------------------------------------------------------ streams

    static void down() {
        check("stream of 5", c -> same(collect(c.stream(Integer.class, "Counter", 5, 1)),
            new Streamed<>(range(0, 5), null)));
        check("stream of 10,000", c -> same(collect(c.stream(Integer.class, "Counter", 10_000, 0)),
            new Streamed<>(range(0, 10_000), null)));
        check("empty stream", c -> same(collect(c.stream(Integer.class, "Counter", 0, 0)),
            new Streamed<>(List.of(), null)));
        check("stream of a channel", c -> same(collect(c.stream(Integer.class, "CounterChannel", 100)),
            new Streamed<>(range(0, 100), null)));
        check("a stream of values of every type", c -> {
            List<JsonObject> items = collect(c.<JsonObject>stream(JsonObject.class, "ZooStream", 3)).items;
            same(items.size(), 3);
            for (int i : range(0, 3)) {
                JsonObject wanted = zoo();
                wanted.addProperty(json ? "int" : "Int", i);
                same(items.get(i).toString(), wanted.toString());
            }
        });
        check("three streams at once", c -> {
            List<Observable<Integer>> streams = new ArrayList<>();
            for (int n : List.of(20, 40, 60)) streams.add(c.stream(Integer.class, "Counter", n, 1));
            for (int i : range(0, 3)) same(collect(streams.get(i)).items, range(0, 20 * (i + 1)));
        });
        check("failing stream delivers its items first", c -> same(collect(c.stream(Integer.class, "FailingStream", 3)),
            new Streamed<>(List.of(0, 1, 2), STREAM_FAILED + " HubException: stream broke")));
        check("disposed stream stops on the server", c -> {
            int before = cancelled(c);
            same(takeThenDispose(c.stream(Integer.class, "Counter", 1_000_000, 2), 3), List.of(0, 1, 2));
            cancellation(c, before);
            alive(c);
        });
    }

    static void up() {
        check("upload", c -> same(get(c.invoke(String.class, "Upload", Observable.just("a", "é", "😀"))), "3:aé😀"));
        check("upload of nothing", c -> same(get(c.invoke(String.class, "Upload", Observable.empty())), "0:"));
        check("upload of 2000", c -> same(get(c.invoke(String.class, "Upload", Observable.just("x").repeat(2000))),
            "2000:" + "x".repeat(2000)));
        check("upload to a channel", c ->
            same(get(c.invoke(Integer.class, "UploadSum", Observable.range(1, 100))), 5050));
        check("upload, item by item", c -> {
            ReplaySubject<String> items = ReplaySubject.create();
            Single<String> result = c.invoke(String.class, "Upload", items);
            for (String item : List.of("a", "b", "c")) {
                items.onNext(item);
                alive(c);
            }
            items.onComplete();
            same(get(result), "3:abc");
        });
        check("two uploads around an argument", c -> same(get(c.invoke(String.class, "UploadTwo",
            Observable.just(1, 2), "L", Observable.just(10, 20, 30))), "L:3:60"));
        check("two uploads side by side", c -> same(get(c.invoke(String.class, "UploadAdjacent",
            Observable.just(1, 2), Observable.just(10, 20, 30))), "3:60"));
        check("upload that fails", c -> same(
            get(c.invoke(String.class, "UploadError",
                Observable.just("a").concatWith(Observable.error(new RuntimeException("client broke"))))),
            "error:java.lang.RuntimeException: client broke"));
        check("upload that fails, uncaught by the method", c -> {
            Observable<String> items = Observable.error(new RuntimeException("client broke"));
            same(rejection(() -> get(c.invoke(String.class, "Upload", items))),
                masked("Upload") + " HubException: java.lang.RuntimeException: client broke");
            alive(c);
        });
        check("upload with an item of a wrong type", c -> {
            same(get(c.invoke(String.class, "UploadError", Observable.just(1))),
                "error:Failed to bind Stream message.");
            alive(c);
        });
        check("upload sent without waiting for a result", c -> {
            c.send("Upload", Observable.just("a"));
            alive(c);
        });
        check("both ways at once", c -> same(collect(c.stream(Integer.class, "StreamEcho", Observable.range(0, 200))),
            new Streamed<>(range(0, 200), null)));
        check("both ways, one item in answer to another", c -> {
            ReplaySubject<Integer> sent = ReplaySubject.create();
            Observable<Integer> echoed = c.stream(Integer.class, "StreamEcho", sent);
            sent.onNext(0);
            same(collect(echoed.doOnNext(item -> {
                if (item < 20) sent.onNext(item + 1);
                else sent.onComplete();
            })), new Streamed<>(range(0, 21), null));
        });
        check("both ways, the upload fails", c -> same(
            collect(c.stream(Integer.class, "StreamEcho",
                Observable.just(1).concatWith(Observable.error(new RuntimeException("up broke"))))),
            new Streamed<>(List.of(1), STREAM_FAILED + " HubException: java.lang.RuntimeException: up broke")));
        check("both ways, cancelled", c -> {
            ReplaySubject<Integer> sent = ReplaySubject.create();
            Observable<Integer> echoed = c.stream(Integer.class, "StreamEcho", sent);
            range(0, 10).forEach(sent::onNext);
            same(takeThenDispose(echoed, 3), List.of(0, 1, 2));
            alive(c); // Microsoft's server may end the connection over an item that meets the stream's very end
            sent.onComplete();
            alive(c);
        });
    }

    // ------------------------------------------------------------------------------------------ the server calls

    static void sending() {
        check("three arguments to a client method", c -> {
            CompletableFuture<List<String>> called = new CompletableFuture<>();
            Subscription subscription = c.on("pong",
                (text, number, point) -> called.complete(List.of(text, number.toString(),
                    json ? point.toString() : point.toString().replace(".0", ""))), // there 1 may be a whole number or not
                String.class, Integer.class, JsonObject.class);
            done(c, "CallMeBack", "pong");
            same(get(called), List.of("called back", "42", point(1, 2).toString().replace(".0", "")));
            subscription.unsubscribe();
        });
        check("client method that nobody handles", c -> {
            done(c, "CallMeBack", "nobody-listens");
            alive(c);
        });
        check("2000 calls in order, before the completion", c -> {
            List<Integer> got = Collections.synchronizedList(new ArrayList<>());
            CountDownLatch all = new CountDownLatch(2000); // the client runs handlers on a thread of their own
            Subscription subscription = c.on("flood", i -> {
                got.add(i);
                all.countDown();
            }, Integer.class);
            done(c, "Flood", 2000);
            holds(all.await(LIMIT, TimeUnit.SECONDS), "only " + got.size() + " came");
            same(got, range(0, 2000));
            subscription.unsubscribe();
        });
        check("broadcast, others, and one client", x -> using((c, _c) -> using((d, _d) -> {
            List<String> mine = heard(c, "message"), theirs = heard(d, "message");
            done(c, "Broadcast", "all 😀");
            done(c, "SendOthers", "others");
            done(c, "SendClient", d.getConnectionId(), "one");
            done(c, "SendClient", "nobody", "none");
            done(c, "SendClient", c.getConnectionId(), "end");
            done(c, "SendClient", d.getConnectionId(), "end");
            eventually(() -> mine.contains("end") && theirs.contains("end"));
            same(List.of(mine, theirs), List.of(List.of("all 😀", "end"), List.of("all 😀", "others", "one", "end")));
        })));
        check("a group, until one leaves it", x -> using((c, _c) -> using((d, _d) -> {
            List<String> mine = new ArrayList<>(), theirs = new ArrayList<>();
            c.on("groupMessage", (group, text) -> mine.add(text), String.class, String.class);
            d.on("groupMessage", (group, text) -> theirs.add(text), String.class, String.class);
            for (HubConnection member : List.of(c, d)) done(member, "JoinGroup", "g");
            done(c, "SendGroup", "g", "1");
            done(c, "SendOthersInGroup", "g", "2");
            done(d, "LeaveGroup", "g");
            done(c, "SendGroup", "g", "3");
            done(c, "AddToGroup", d.getConnectionId(), "g");
            done(c, "SendGroup", "g", "4");
            eventually(() -> mine.contains("4") && theirs.contains("4"));
            same(List.of(mine, theirs), List.of(List.of("1", "3", "4"), List.of("1", "2", "4")));
        })));
        check("a user's connections", x -> as("ann", a -> as("ann", b -> as("bob", d -> {
            List<List<String>> boxes = List.of(heard(a, "message"), heard(b, "message"), heard(d, "message"));
            done(d, "SendUser", "ann", "hi");
            done(d, "SendUser", "bob", "end");
            eventually(() -> boxes.stream().noneMatch(List::isEmpty));
            same(boxes, List.of(List.of("hi"), List.of("hi"), List.of("end")));
        }))));
    }

    interface Probe {
        boolean yes();
    }

    static void eventually(Probe probe) throws InterruptedException {
        long start = System.nanoTime();
        while (!probe.yes()) {
            holds(System.nanoTime() - start < LIMIT * 1_000_000_000L, "what was sent has not come");
            Thread.sleep(5);
        }
    }

    static void clientResults() {
        check("client result", c -> answering(c, question -> Single.just(question + "!"), () ->
            same(get(c.invoke(String.class, "AskClient", "q 😀")), "q 😀!")));
        check("client result, later, while other calls are answered", c -> {
            SingleSubject<String> later = SingleSubject.create();
            answering(c, question -> later, () -> {
                Single<String> asked = c.invoke(String.class, "AskClient", "q");
                alive(c);
                later.onSuccess("at last");
                same(get(asked), "at last");
            });
        });
        check("client result that is an error", c -> answering(c,
            question -> Single.error(new RuntimeException("what?")), () -> {
                same(rejection(() -> get(c.invoke(String.class, "AskClient", "q"))),
                    masked("AskClient") + " HubException: what?");
                alive(c);
            }));
        check("client result that nobody gives", x -> using((c, closed) -> {
            same(rejection(() -> get(c.invoke(String.class, "AskClient", "q"))),
                masked("AskClient") + " HubException: Client failed to parse argument(s)."); // the client's own words
            alive(c);
        }));
        check("client result of a wrong type", c -> {
            Subscription subscription = c.onWithResult("AskMe", question -> Single.just(5), String.class);
            String error = rejection(() -> get(c.invoke(String.class, "AskClient", "q")));
            subscription.unsubscribe();
            holds(error.startsWith(masked("AskClient")
                + " HubException: Error trying to deserialize result to String. "), error);
            alive(c);
        });
        check("client result of another client", c -> using((d, closed) ->
            answering(d, question -> Single.just(question + " from d"), () ->
                same(get(c.invoke(String.class, "AskOther", d.getConnectionId(), "q")), "q from d"))));
        check("client result of a client that is not there", c -> same(
            rejection(() -> get(c.invoke(String.class, "AskOther", "nobody", "q"))), masked("AskOther")));
    }

    // ------------------------------------------------------------------------------------------ the connection's life

    static void life() {
        check("negotiation and transport", x -> using((c, closed) -> {
            Map<String, String> who = whoAmI(c);
            same(List.of(who.get("connectionId"), who.get("transport")), List.of(c.getConnectionId(),
                transport == TransportEnum.WEBSOCKETS ? "WebSockets" : "LongPolling"));
        }));
        check("the client's own choice of a transport", x ->
            using(url, b -> b.withTransport(TransportEnum.ALL), (c, closed) -> alive(c)));
        check("headers of the client's", x -> using(url, b -> b.withHeader("X-Lab", "of mine"), (c, closed) ->
            same(whoAmI(c).get("xLab"), "of mine")));
        check("messages right behind the handshake's response", x -> {
            HubConnection c = build(url, b -> b.withHeader("X-Lab", "welcome")).connection;
            List<Integer> calls = Collections.synchronizedList(new ArrayList<>());
            c.on("welcome", calls::add, Integer.class);
            start(c);
            eventually(() -> calls.size() == 2);
            stop(c);
            same(calls, List.of(1, 2));
        });
        if (transport == TransportEnum.WEBSOCKETS) {
            check("no negotiation", x -> using(url, b -> b.shouldSkipNegotiate(true), (c, closed) -> {
                same(c.getConnectionId(), null);
                alive(c);
            }));
            // Not under long polling: what the client's last life was still sent, it may take for an answer in its next.
            check("stop and start again", x -> {
                HubConnection c = build(url, UnaryOperator.identity()).connection;
                Set<String> ids = new HashSet<>();
                Semaphore closed = new Semaphore(0);
                c.onClosed(error -> closed.release());
                for (int i : range(0, 3)) {
                    start(c);
                    ids.add(c.getConnectionId());
                    same(get(c.invoke(Integer.class, "Add", i, 1)), i + 1);
                    stop(c);
                    same(c.getConnectionState(), HubConnectionState.DISCONNECTED);
                    // The end of the old WebSocket may reach the client late, which takes it for that of the new one.
                    same(closed.tryAcquire(5, TimeUnit.SECONDS), true);
                }
                same(ids.size(), 3);
            });
        }
        check("the token's user", x -> as("ann", c -> {
            Map<String, String> who = whoAmI(c);
            same(List.of(who.get("user"), who.get("auth")), List.of("ann", "Bearer token-ann"));
        }));
        check("a method for some, called by others", c -> {
            String text = "Failed to invoke 'AdminOnly' because user is unauthorized";
            same(rejection(() -> done(c, "AdminOnly")), text);
            as("ann", d -> same(rejection(() -> done(d, "AdminOnly")), text));
            as("admin", d -> same(get(d.invoke(String.class, "AdminOnly")), "secret of admin"));
        });
        check("a hub for some, without a token", x -> {
            String error = rejection(() -> start(build(secureUrl, UnaryOperator.identity()).connection));
            holds(error.contains("401"), error);
        });
        check("40k message up closes the connection with an error", x -> using((c, closed) -> {
            String error = rejection(() -> get(c.invoke(Integer.class, "Length", "y".repeat(40_000))));
            same(error, "Connection closed with an error.");
            same(get(closed), Optional.of("Connection closed with an error."));
        }));
        check("server aborts the connection", x -> using((c, closed) -> {
            c.send("AbortMe");
            endsInOrder(closed);
            same(c.getConnectionState(), HubConnectionState.DISCONNECTED);
        }));
        check("a call that is running when the server aborts fails", x -> using((c, closed) -> {
            Single<String> slow = c.invoke(String.class, "Slow", 60_000);
            c.send("AbortMe");
            rejection(() -> get(slow));
            get(closed);
        }));
        check("stop is clean, and ends a stream on the server", c -> {
            int before = cancelled(c);
            using((d, closed) -> {
                CompletableFuture<Integer> first = new CompletableFuture<>();
                d.stream(Integer.class, "Counter", 1_000_000, 2).subscribe(first::complete, error -> { });
                same(get(first), 0);
                stop(d);
                endsInOrder(closed);
            });
            cancellation(c, before);
        });
        check("a silent connection stays", x -> using((c, closed) -> {
            // Nothing but pings for longer than either side waits for the other, where the server's times are short.
            Thread.sleep(Math.min(2 * Math.max(timeout, 5 * keepAlive / 2), 6000));
            same(c.getConnectionState(), HubConnectionState.CONNECTED);
            alive(c);
        }));
    }

    // ------------------------------------------------------------------------------------------ run

    static String oneLine(Throwable error) {
        String text = (error.getClass().getSimpleName() + ": " + error.getMessage()).replaceAll("\\s+", " ");
        return text.substring(0, Math.min(text.length(), 600));
    }

    static long milliseconds(String variable, String otherwise) {
        return (long) (1000 * Double.parseDouble(System.getenv().getOrDefault(variable, otherwise)));
    }

    /** Run one check on the shared connection, which is built anew when a check has broken it. */
    static Throwable run(Body body, HubConnection shared) throws InterruptedException {
        CompletableFuture<Void> end = new CompletableFuture<>();
        Thread thread = new Thread(() -> {
            try {
                if (shared.getConnectionState() == HubConnectionState.DISCONNECTED) start(shared);
                body.run(shared);
                end.complete(null);
            } catch (Throwable error) {
                end.completeExceptionally(error);
            }
        });
        thread.setDaemon(true);
        thread.start();
        try {
            end.get(3 * LIMIT, TimeUnit.SECONDS);
            return null;
        } catch (ExecutionException failure) {
            return failure.getCause();
        } catch (TimeoutException late) {
            return late;
        }
    }

    public static void main(String[] arguments) throws Exception {
        List<String> given = List.of(arguments);
        boolean filtered = given.size() == 5 && given.get(3).equals("--only");
        boolean known = (given.size() == 3 || filtered) && Set.of("ws", "lp").contains(given.get(1))
            && Set.of("json", "messagepack").contains(given.get(2));
        if (!known) {
            System.err.println("usage: Checks URL ws|lp json|messagepack [--only TEXT]");
            System.exit(2);
        }
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", System.getenv("DEBUG") == null ? "off" : "trace");
        RxJavaPlugins.setErrorHandler(error -> { }); // of a subscriber that is no longer there
        url = given.get(0);
        serialUrl = url.replaceFirst("[^/]+$", "serialhub");
        secureUrl = url.replaceFirst("[^/]+$", "securehub");
        transport = given.get(1).equals("ws") ? TransportEnum.WEBSOCKETS : TransportEnum.LONG_POLLING;
        json = given.get(2).equals("json");
        keepAlive = milliseconds("LAB_KEEPALIVE", "15");
        timeout = milliseconds("LAB_TIMEOUT", "30");
        calls();
        errors();
        down();
        up();
        sending();
        clientResults();
        life();
        HubConnection shared = build(url, UnaryOperator.identity()).connection;
        int passed = 0, all = 0;
        for (Map.Entry<String, Body> entry : checks.entrySet()) {
            if (filtered && !entry.getKey().contains(given.get(4))) continue;
            all += 1;
            Throwable error = run(entry.getValue(), shared);
            if (error == null) passed += 1;
            System.out.println((error == null ? "PASS " : "FAIL ") + entry.getKey() + "  "
                + (error == null ? "" : oneLine(error)));
        }
        System.out.println("TOTAL " + passed + "/" + all);
        System.exit(passed == all ? 0 : 1);
    }
}
