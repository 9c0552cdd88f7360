/* A web server small enough to be the only file of its image.
 *
 * GET anything   200, one line: "hello from <hostname>, port <PORT>"
 * GET /healthz   200, "ok"
 * POST, PUT      200, the body back
 *
 * Connections are kept alive, each in a thread of its own. SIGTERM ends it with exit code 0.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_MAX = 16 * 1024, CHUNK = 64 * 1024 };

static char greeting[512];

struct request {
    char head[HEAD_MAX + 1];
    size_t filled; /* bytes in head; those after the blank line belong to the body */
    size_t length; /* of the head, with its blank line */
    size_t body;
};

static void leave(int signal) {
    (void)signal;
    _exit(0);
}

static int send_all(int connection, const char *data, size_t size) {
    while (size > 0) {
        ssize_t sent = send(connection, data, size, MSG_NOSIGNAL);
        if (sent <= 0) return 0;
        data += sent;
        size -= (size_t)sent;
    }
    return 1;
}

static int answer_head(int connection, const char *status, size_t length) {
    char head[256];
    int size = snprintf(head, sizeof head,
                        "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", status, length);
    return send_all(connection, head, (size_t)size);
}

static int answer(int connection, const char *status, const char *text) {
    return answer_head(connection, status, strlen(text)) && send_all(connection, text, strlen(text));
}

/* 1 when a whole head is there, 0 when the connection ended, -1 when the head is too long. */
static int read_head(int connection, struct request *request) {
    for (;;) {
        request->head[request->filled] = '\0';
        char *end = strstr(request->head, "\r\n\r\n");
        if (end) {
            request->length = (size_t)(end - request->head) + 4;
            return 1;
        }
        if (request->filled == HEAD_MAX) return -1;
        ssize_t got = recv(connection, request->head + request->filled, HEAD_MAX - request->filled, 0);
        if (got <= 0) return 0;
        request->filled += (size_t)got;
    }
}

static const char *header(const struct request *request, const char *name) {
    for (const char *line = strstr(request->head, "\r\n"); line && line[2] != '\r'; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, strlen(name)) == 0) return line + 2 + strlen(name);
    return NULL;
}

static int echo(int connection, struct request *request) {
    static _Thread_local char chunk[CHUNK];
    size_t here = request->filled - request->length, left = request->body;
    if (here > left) here = left;
    if (header(request, "Expect:") && !send_all(connection, "HTTP/1.1 100 Continue\r\n\r\n", 25)) return 0;
    if (!answer_head(connection, "200 OK", left)) return 0;
    if (!send_all(connection, request->head + request->length, here)) return 0;
    for (left -= here; left > 0;) {
        ssize_t got = recv(connection, chunk, left < CHUNK ? left : CHUNK, 0);
        if (got <= 0 || !send_all(connection, chunk, (size_t)got)) return 0;
        left -= (size_t)got;
    }
    return 1;
}

/* Whether the connection may go on. */
static int serve(int connection, struct request *request) {
    const char *length = header(request, "Content-Length:"), *kept = header(request, "Connection:");
    request->body = length ? strtoul(length, NULL, 10) : 0;
    int on = !(kept && strncasecmp(kept + strspn(kept, " "), "close", 5) == 0);
    if (header(request, "Transfer-Encoding:")) {
        answer(connection, "411 Length Required", "send a Content-Length\n");
        return 0;
    }
    if (strncmp(request->head, "POST ", 5) == 0 || strncmp(request->head, "PUT ", 4) == 0)
        return echo(connection, request) && on;
    if (strncmp(request->head, "GET ", 4) != 0) {
        answer(connection, "405 Method Not Allowed", "GET, POST or PUT\n");
        return 0;
    }
    if (request->body > 0) return 0;
    return answer(connection, "200 OK", strncmp(request->head, "GET /healthz ", 13) == 0 ? "ok\n" : greeting) && on;
}

static void *converse(void *argument) {
    int connection = (int)(long)argument, state;
    struct request *request = calloc(1, sizeof *request);
    while (request && (state = read_head(connection, request)) != 0) {
        if (state < 0) answer(connection, "431 Request Header Fields Too Large", "too long\n");
        if (state < 0 || !serve(connection, request)) break;
        size_t used = request->length + request->body; /* what follows is the next request already */
        size_t rest = request->filled > used ? request->filled - used : 0;
        if (rest > 0) memmove(request->head, request->head + used, rest);
        request->filled = rest;
    }
    free(request);
    close(connection);
    return NULL;
}

int main(void) {
    const char *port = getenv("PORT") ? getenv("PORT") : "8080";
    char host[256] = "";
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
    signal(SIGTERM, leave);
    signal(SIGINT, leave);
    gethostname(host, sizeof host - 1);
    snprintf(greeting, sizeof greeting, "hello from %s, port %s\n", host, port);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) {
        perror("cannot listen");
        return 1;
    }
    printf("listening on port %s\n", port);
    fflush(stdout);
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&detached, 256 * 1024);
    for (;;) {
        pthread_t thread;
        int connection = accept(listener, NULL, NULL);
        if (connection < 0) continue;
        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (pthread_create(&thread, &detached, converse, (void *)(long)connection)) close(connection);
    }
}
