// The lab hub: the methods of lab_hub.py, but for those that ASP.NET Core 3.1 cannot have. It asks clients for no results.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Text.Json;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Connections.Features;
using Microsoft.AspNetCore.SignalR;

namespace LabServer
{
    /// <summary>What Stats tells: connections that are open, that ever were, and streams that did not reach their end.</summary>
    public static class Counts
    {
        public static int Open;
        public static int Opened;
        public static int Cancelled;

        public static Dictionary<string, int> Now() =>
            new Dictionary<string, int> { { "open", Open }, { "cancelled", Cancelled }, { "opened", Opened } };
    }

    public class LabHub : Hub
    {
        private IClientProxy Caller => Clients.Caller;

        public override async Task OnConnectedAsync()
        {
            Interlocked.Increment(ref Counts.Open);
            Interlocked.Increment(ref Counts.Opened);
            if (Context.GetHttpContext().Request.Headers["X-Lab"] == "welcome")
            {
                await Caller.SendAsync("welcome", 1);
                await Caller.SendAsync("welcome", 2);
            }
        }

        public override Task OnDisconnectedAsync(Exception exception)
        {
            Interlocked.Decrement(ref Counts.Open);
            return Task.CompletedTask;
        }

        // calls

        public object Echo(object value) => value;

        public int Add(int a, int b) => a + b;

        public Point MovePoint(Point point, double dx, double dy) =>
            new Point { X = point.X + dx, Y = point.Y + dy, Label = point.Label };

        public void Nothing()
        {
        }

        public DateTimeOffset Now() => DateTimeOffset.UtcNow;

        public byte[] Bytes(int n) => Enumerable.Range(0, n).Select(i => (byte)i).ToArray();

        public string Big(int n) => new string('x', n);

        public int Length(string text) => text == null ? -1 : text.Length;

        public async Task<string> Slow(int ms)
        {
            await Task.Delay(ms);
            return $"slept {ms}";
        }

        public Dictionary<string, int> Stats() => Counts.Now();

        [HubMethodName("renamed.method")]
        public string Renamed() => "renamed";

        public Dictionary<string, string> WhoAmI()
        {
            var request = Context.GetHttpContext().Request;
            return new Dictionary<string, string>
            {
                { "connectionId", Context.ConnectionId },
                { "user", Context.UserIdentifier },
                { "name", Context.User.Identity.Name },
                { "transport", Context.Features.Get<IHttpTransportFeature>().TransportType.ToString() },
                { "auth", request.Headers["Authorization"] },
                { "authQuery", request.Query["access_token"] },
                { "xLab", request.Headers["X-Lab"] },
                { "userAgent", request.Headers["User-Agent"] },
                { "xRequestedWith", request.Headers["X-Requested-With"] },
                { "query", request.QueryString.ToString() },
            };
        }

        [Authorize(Roles = "admin")]
        public string AdminOnly() => $"secret of {Context.UserIdentifier}";

        public void Throw() => throw new InvalidOperationException("secret detail");

        public void ThrowHubException() => throw new HubException("told to the client");

        public void AbortMe() => Context.Abort();

        // types

        public Zoo MakeZoo() => new Zoo();

        public Zoo EchoZoo(Zoo zoo) => zoo;

        public string SameZoo(Zoo zoo)
        {
            var wanted = new Zoo();
            return string.Join(",", typeof(Zoo).GetProperties()
                .Where(p => p.Name != nameof(Zoo.Anything) && p.Name != nameof(Zoo.Inner))
                .Where(p => JsonSerializer.Serialize(p.GetValue(zoo)) != JsonSerializer.Serialize(p.GetValue(wanted)))
                .Select(p => p.Name));
        }

        // messages to clients

        public Task Broadcast(string message) => Clients.All.SendAsync("message", message);

        public Task Send(string message) => Clients.All.SendAsync("message", message);

        public Task SendOthers(string message) => Clients.Others.SendAsync("message", message);

        public Task SendUser(string user, string message) => Clients.User(user).SendAsync("message", message);

        public Task SendClient(string id, string message) => Clients.Client(id).SendAsync("message", message);

        public Task JoinGroup(string group) => Groups.AddToGroupAsync(Context.ConnectionId, group);

        public Task AddToGroup(string id, string group) => Groups.AddToGroupAsync(id, group);

        public Task LeaveGroup(string group) => Groups.RemoveFromGroupAsync(Context.ConnectionId, group);

        public Task SendGroup(string group, string message) =>
            Clients.Group(group).SendAsync("groupMessage", group, message);

        public Task SendOthersInGroup(string group, string message) =>
            Clients.OthersInGroup(group).SendAsync("groupMessage", group, message);

        public Task CallMeBack(string name) =>
            Caller.SendAsync(name, "called back", 42, new Point { X = 1, Y = 2, Label = "p" });

        public async Task Flood(int n)
        {
            for (var i = 0; i < n; i++)
            {
                await Caller.SendAsync("flood", i);
            }
        }

        // streams down

        public async IAsyncEnumerable<int> Counter(
            int count, int delayMs, [EnumeratorCancellation] CancellationToken cancelled)
        {
            var whole = false;
            try
            {
                for (var i = 0; i < count; i++)
                {
                    cancelled.ThrowIfCancellationRequested();
                    yield return i;
                    if (delayMs > 0)
                    {
                        await Task.Delay(delayMs, cancelled);
                    }
                }
                whole = true;
            }
            finally
            {
                if (!whole)
                {
                    Interlocked.Increment(ref Counts.Cancelled);
                }
            }
        }

        public ChannelReader<int> CounterChannel(int count)
        {
            var channel = Channel.CreateBounded<int>(1);
            _ = Fill();
            return channel.Reader;

            async Task Fill()
            {
                for (var i = 0; i < count; i++)
                {
                    await channel.Writer.WriteAsync(i);
                }
                channel.Writer.Complete();
            }
        }

        public async IAsyncEnumerable<Zoo> ZooStream(int n)
        {
            for (var i = 0; i < n; i++)
            {
                await Task.Yield();
                yield return new Zoo { Int = i };
            }
        }

        public async IAsyncEnumerable<int> FailingStream(int good)
        {
            for (var i = 0; i < good; i++)
            {
                await Task.Yield();
                yield return i;
            }
            throw new HubException("stream broke");
        }

        // streams up

        public async Task<string> Upload(IAsyncEnumerable<string> items)
        {
            var received = new List<string>();
            await foreach (var item in items)
            {
                received.Add(item);
            }
            return $"{received.Count}:{string.Concat(received)}";
        }

        public Task<long> UploadSum(ChannelReader<int> items) => Total(items.ReadAllAsync());

        public async Task<string> UploadTwo(IAsyncEnumerable<int> a, string label, IAsyncEnumerable<int> b) =>
            $"{label}:{await Total(a)}:{await Total(b)}";

        public async Task<string> UploadAdjacent(IAsyncEnumerable<int> a, IAsyncEnumerable<int> b) =>
            $"{await Total(a)}:{await Total(b)}";

        public async Task<string> UploadError(IAsyncEnumerable<string> items)
        {
            try
            {
                await foreach (var _ in items)
                {
                }
            }
            catch (Exception error)
            {
                return $"error:{error.Message}";
            }
            return "no error";
        }

        public async IAsyncEnumerable<object> StreamEcho(
            IAsyncEnumerable<object> items, [EnumeratorCancellation] CancellationToken cancelled)
        {
            await foreach (var item in items.WithCancellation(cancelled))
            {
                yield return item;
            }
        }

        private static async Task<long> Total(IAsyncEnumerable<int> items)
        {
            long total = 0;
            await foreach (var item in items)
            {
                total += item;
            }
            return total;
        }
    }
}
