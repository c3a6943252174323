"""A mail server for tests: Debian's aiosmtpd, with answers by what stands before the @ of the recipient.

Prints its port, keeps each mail as N.json in the folder it is given, and ends with its standard input.
"""

import argparse
import asyncio
import email
import email.policy
import json
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

NEVER = 3600


class Keeper:
    def __init__(self, folder):
        self.folder = folder
        self.count = 0

    async def handle_MAIL(self, server, session, envelope, address, options):
        if address.startswith("stranger@"):
            return "550 5.7.1 not your address"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        name = address.split("@")[0]
        if name == "nobody":
            return f"550 5.1.1 <{address}>: user {name} unknown"
        if name == "busy":
            return "450 4.2.1 mailbox is busy"
        if name == "relay":
            return "530 5.7.0 authenticate first"
        if name == "hang":
            await asyncio.sleep(NEVER)
        if name == "cut":
            server.transport.abort()
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        name = envelope.rcpt_tos[0].split("@")[0]
        if name == "spam":
            return f"554 5.7.1 mail to {envelope.rcpt_tos[0]} with 123456 looks like spam"
        if name == "full":
            return "452 4.3.1 no space left"
        if name == "late":
            await asyncio.sleep(NEVER)
        self.keep(server, session, envelope)
        return f"250 2.0.0 OK: queued as N{self.count}"

    def keep(self, server, session, envelope):
        source = envelope.original_content
        mail = email.message_from_bytes(source, policy=email.policy.default)
        kept = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "options": envelope.mail_options,
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "authenticated": bool(session.authenticated),
            "port": session.peer[1],
            "source": source.decode("utf-8"),
            "headers": {name: str(value) for name, value in mail.items()},
            "type": mail.get_content_type(),
            "parts": [
                {"type": part.get_content_type(), "charset": part.get_content_charset(), "content": part.get_content()}
                for part in mail.iter_parts()
            ],
            "defects": [str(defect) for part in mail.walk() for defect in part.defects],
        }
        path = os.path.join(self.folder, f"{self.count}.json")
        with open(path + ".part", "w", encoding="utf-8") as file:
            json.dump(kept, file)
        os.rename(path + ".part", path)
        self.count += 1


def authenticator(account, folder):
    name, password = (part.encode() for part in account.split(":"))

    def check(server, session, envelope, mechanism, data):
        with open(os.path.join(folder, "sign-ins"), "a", encoding="utf-8") as file:
            file.write("one\n")
        return AuthResult(success=(data.login, data.password) == (name, password), handled=False)

    return check


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--security", choices=["tls", "starttls", "none"], required=True)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--account")
    parser.add_argument("--ascii-only", action="store_true")
    parser.add_argument("--folder", required=True)
    arguments = parser.parse_args()

    context = None
    if arguments.security != "none":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(arguments.certificate, arguments.key)
    options = {
        "hostname": "mail.example.com",
        "enable_SMTPUTF8": not arguments.ascii_only,
        "loop": asyncio.get_running_loop(),
    }
    if arguments.security == "starttls":
        options.update(tls_context=context, require_starttls=True)
    if arguments.account:
        # With TLS from the first byte this server does not know that it speaks TLS.
        wants_starttls = arguments.security == "starttls"
        options.update(
            authenticator=authenticator(arguments.account, arguments.folder),
            auth_required=True,
            auth_require_tls=wants_starttls,
        )
    keeper = Keeper(arguments.folder)
    listener = await asyncio.get_running_loop().create_server(
        lambda: SMTP(keeper, **options),
        host="127.0.0.1",
        port=0,
        ssl=context if arguments.security == "tls" else None,
    )
    print(listener.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


asyncio.run(main())
