#!/usr/bin/env bash
# sign.sh FILE...
#
# Signs programs, DLLs and packages for Windows in place (Authenticode), with what the environment names:
#
#   SALLYPORT_SIGN_PKCS12         a certificate and its key in a file
#   SALLYPORT_SIGN_PASSWORD_FILE  the file with its password; none: it has none
# or, for a key that never leaves its token, with this machine's own osslsigncode:
#   SALLYPORT_SIGN_PKCS11_MODULE  the token's driver, a .so
#   SALLYPORT_SIGN_KEY            the key's URI: pkcs11:...
#   SALLYPORT_SIGN_CERTIFICATE    a file with the certificate and its chain, PEM
# and
#   SALLYPORT_SIGN_TIMESTAMP      the address of a time stamp server (RFC 3161); without it a signature ends with the certificate
#
# Where nothing is named nothing is signed, and a line says so.
set -euo pipefail

fail() { printf 'installer/windows/sign.sh: %s\n' "$*" >&2; exit 1; }

[[ $# -gt 0 ]] || fail "usage: sign.sh FILE..."
enter=$(dirname "$(realpath "$0")")/../../internal/testkit/wine/enter.sh
options=(-h sha256 -n Sallyport)
[[ -z ${SALLYPORT_SIGN_TIMESTAMP:-} ]] || options+=(-ts "$SALLYPORT_SIGN_TIMESTAMP")

if [[ -n ${SALLYPORT_SIGN_PKCS12:-} ]]; then
	pkcs12=$(realpath -e "$SALLYPORT_SIGN_PKCS12") || fail "SALLYPORT_SIGN_PKCS12: there is no such file"
	binds=(--bind "$(dirname "$pkcs12")")
	options+=(-pkcs12 "$pkcs12")
	if [[ -n ${SALLYPORT_SIGN_PASSWORD_FILE:-} ]]; then
		password=$(realpath -e "$SALLYPORT_SIGN_PASSWORD_FILE") || fail "SALLYPORT_SIGN_PASSWORD_FILE: there is no such file"
		binds+=(--bind "$(dirname "$password")")
		options+=(-readpass "$password")
	fi
	sign() { "$enter" "${binds[@]}" --bind "$(dirname "$2")" -- osslsigncode sign "${options[@]}" -in "$1" -out "$2"; }
elif [[ -n ${SALLYPORT_SIGN_PKCS11_MODULE:-} ]]; then
	command -v osslsigncode >/dev/null || fail "for a key on a token this machine needs osslsigncode"
	options+=(-pkcs11module "$SALLYPORT_SIGN_PKCS11_MODULE"
		-key "${SALLYPORT_SIGN_KEY:?which key on the token}" -certs "${SALLYPORT_SIGN_CERTIFICATE:?the certificate of the key}")
	sign() { osslsigncode sign "${options[@]}" -in "$1" -out "$2"; }
else
	for file; do
		printf 'not signed, as no certificate is given: %s\n' "${file##*/}" >&2
	done
	exit
fi

for file; do
	file=$(realpath -e "$file")
	sign "$file" "$file.signed" >/dev/null || fail "${file##*/} could not be signed"
	mv "$file.signed" "$file"
	printf 'signed: %s\n' "${file##*/}" >&2
done
