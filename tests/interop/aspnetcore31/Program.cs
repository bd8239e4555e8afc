// Serves the lab hub on ASP.NET Core 3.1: `dotnet LabServer.dll PORT`, where 0 lets the system choose. Prints the address
// once it listens. LAB_DETAILED=1, LAB_KEEPALIVE, LAB_TIMEOUT, LAB_HANDSHAKE, LAB_MAXRECV and LAB_STREAMBUF are options
// as in ../README.md; LAB_TRACE=1 logs every message.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Security.Claims;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Threading.Tasks;
using Microsoft.AspNetCore.Authentication;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Connections;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.SignalR;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Options;

namespace LabServer
{
    public static class Program
    {
        public static async Task Main(string[] arguments)
        {
            using var host = new HostBuilder()
                .ConfigureLogging(Log)
                .ConfigureWebHost(web => web
                    .UseKestrel()
                    .UseUrls($"http://127.0.0.1:{arguments[0]}")
                    .ConfigureServices(AddServices)
                    .Configure(Build))
                .Build();
            await host.StartAsync();
            var addresses = host.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>().Addresses;
            Console.WriteLine($"listening on {addresses.Single()}");
            await host.WaitForShutdownAsync();
        }

        private static string Setting(string name, string otherwise)
        {
            var value = Environment.GetEnvironmentVariable(name);
            return string.IsNullOrEmpty(value) ? otherwise : value;
        }

        private static TimeSpan Seconds(string name, string otherwise) =>
            TimeSpan.FromSeconds(double.Parse(Setting(name, otherwise)));

        private static void Log(ILoggingBuilder logging)
        {
            var trace = Setting("LAB_TRACE", "") == "1";
            logging.AddConsole().SetMinimumLevel(trace ? LogLevel.Trace : LogLevel.Warning);
        }

        private static void SetOptions(HubOptions options)
        {
            var limit = long.Parse(Setting("LAB_MAXRECV", "32768"));
            options.EnableDetailedErrors = Setting("LAB_DETAILED", "") == "1";
            options.KeepAliveInterval = Seconds("LAB_KEEPALIVE", "15");
            options.ClientTimeoutInterval = Seconds("LAB_TIMEOUT", "30");
            options.HandshakeTimeout = Seconds("LAB_HANDSHAKE", "5");
            options.MaximumReceiveMessageSize = limit == 0 ? (long?)null : limit;
            options.StreamBufferCapacity = int.Parse(Setting("LAB_STREAMBUF", "10"));
        }

        private static void AddServices(IServiceCollection services)
        {
            services.AddRouting();
            services.AddAuthorization();
            services.AddAuthentication("lab").AddScheme<AuthenticationSchemeOptions, TokenHandler>("lab", null);
            services.AddSingleton<IUserIdProvider, NameAsUserId>();
            services.AddSignalR(SetOptions);
        }

        private static void Build(IApplicationBuilder app)
        {
            app.UseRouting();
            app.UseAuthentication();
            app.UseAuthorization();
            app.UseWebSockets();
            app.UseEndpoints(routes =>
            {
                routes.MapHub<LabHub>("/hub");
                routes.MapHub<LabHub>("/wshub", o => o.Transports = HttpTransportType.WebSockets);
                routes.MapHub<LabHub>("/ssehub", o => o.Transports = HttpTransportType.ServerSentEvents);
                routes.MapHub<LabHub>("/lphub", o => o.Transports = HttpTransportType.LongPolling);
                routes.MapHub<LabHub>("/securehub").RequireAuthorization();
                MapAnswer(routes, "/redirect/negotiate", request => new Dictionary<string, string>
                {
                    { "url", $"http://{request.Host}/securehub" },
                    { "accessToken", "token-redirected" },
                });
                MapAnswer(routes, "/neg-error/negotiate", request => new Dictionary<string, string>
                {
                    { "error", "negotiation refused" },
                });
            });
        }

        private static void MapAnswer(
            IEndpointRouteBuilder routes, string path, Func<HttpRequest, Dictionary<string, string>> answer)
        {
            routes.MapPost(path, context =>
            {
                context.Response.ContentType = "application/json";
                return context.Response.WriteAsync(JsonSerializer.Serialize(answer(context.Request)));
            });
        }
    }

    /// <summary>The token "token-NAME", in the header or the query, signs NAME in, as an admin if NAME is admin.</summary>
    public class TokenHandler : AuthenticationHandler<AuthenticationSchemeOptions>
    {
        private const string Mark = "token-";

        public TokenHandler(
            IOptionsMonitor<AuthenticationSchemeOptions> options, ILoggerFactory logger, UrlEncoder encoder, ISystemClock clock)
            : base(options, logger, encoder, clock)
        {
        }

        protected override Task<AuthenticateResult> HandleAuthenticateAsync()
        {
            const string Bearer = "Bearer ";
            string header = Request.Headers["Authorization"], token = Request.Query["access_token"];
            if (header != null && header.StartsWith(Bearer))
            {
                token = header.Substring(Bearer.Length);
            }
            if (token == null || !token.StartsWith(Mark))
            {
                return Task.FromResult(AuthenticateResult.NoResult());
            }
            var name = token.Substring(Mark.Length);
            var identity = new ClaimsIdentity(new[] { new Claim(ClaimTypes.Name, name) }, Scheme.Name);
            if (name == "admin")
            {
                identity.AddClaim(new Claim(ClaimTypes.Role, name));
            }
            var ticket = new AuthenticationTicket(new ClaimsPrincipal(identity), Scheme.Name);
            return Task.FromResult(AuthenticateResult.Success(ticket));
        }
    }

    public class NameAsUserId : IUserIdProvider
    {
        public string GetUserId(HubConnectionContext connection) => connection.User?.Identity.Name;
    }
}
