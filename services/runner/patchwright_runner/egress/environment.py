"""What tells programs in the sandbox of the proxy."""

from __future__ import annotations


def proxied(port: int) -> dict[str, str]:
    """Variables for commands that reach the proxy at `port` of their loopback.

    curl reads http_proxy in lower case only, others read upper case first, and git and cargo go
    by curl's; pip, Go, gem and apt take the common ones. npm, yarn and Node have their own.
    """
    proxy, direct = f"http://127.0.0.1:{port}", "localhost,127.0.0.1,::1"
    common = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "NO_PROXY": direct}
    return {
        **common,
        **{name.lower(): value for name, value in common.items()},
        "npm_config_proxy": proxy,
        "npm_config_https_proxy": proxy,
        "npm_config_noproxy": direct,
        # Questions about newer versions, and reports on what was installed, are uploads.
        "npm_config_update_notifier": "false",
        "npm_config_audit": "false",
        "npm_config_fund": "false",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "YARN_HTTP_PROXY": proxy,
        "YARN_HTTPS_PROXY": proxy,
        "NODE_USE_ENV_PROXY": "1",
        # Its own git library knows only a part of git's settings.
        "CARGO_NET_GIT_FETCH_WITH_CLI": "true",
        # Nobody is there to answer.
        "GIT_TERMINAL_PROMPT": "0",
        "PIP_NO_INPUT": "1",
    }
