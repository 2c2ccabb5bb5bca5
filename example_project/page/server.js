const http = require("http");
const os = require("os");
const greeting = require("greeting");

const server = http.createServer((request, response) => {
  response.setHeader("Content-Type", "text/html; charset=utf-8");
  response.end(`<h1>${greeting(os.userInfo().username)}</h1>\n`);
});

process.on("SIGTERM", () => server.close());
server.listen(Number(process.env.PORT), () => console.log(`listening on ${server.address().port}`));
