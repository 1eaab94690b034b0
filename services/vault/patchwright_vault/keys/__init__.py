"""Where key-encryption keys live: a file, the environment, a PKCS#11 token."""
