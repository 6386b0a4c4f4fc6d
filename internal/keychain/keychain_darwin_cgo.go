//go:build darwin && cgo

package keychain

/*
#cgo CFLAGS: -Wno-deprecated-declarations
#cgo LDFLAGS: -framework CoreFoundation -framework Security
#include <Security/Security.h>
#include <unistd.h>

// sallyport_default_keychain gives the path of the default keychain. Nobody will be
// asked for anything afterwards: a question that nobody sees would hang the agent.
// These calls are deprecated, as custom keychains are; SecItem's have no others for it.
static OSStatus sallyport_default_keychain(char *path, UInt32 size)
{
	OSStatus status = SecKeychainSetUserInteractionAllowed(0);
	SecKeychainRef keychain = NULL;

	if (status == errSecSuccess)
		status = SecKeychainCopyDefault(&keychain);
	if (status != errSecSuccess)
		return status;
	size--;
	status = SecKeychainGetPath(keychain, &size, path);
	CFRelease(keychain);
	return status;
}

// sallyport_host_uuid waits for the hardware's name for at most five seconds.
static int sallyport_host_uuid(unsigned char *id)
{
	const struct timespec patience = {5, 0};

	return gethostuuid(id, &patience);
}
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/keybase/go-keychain"
)

// passwords are the generic passwords of the default keychain, by go-keychain.
type passwords struct{}

func (passwords) where() (uid int, path string, err error) {
	var buf [1024]byte // PATH_MAX
	if s := C.sallyport_default_keychain((*C.char)(unsafe.Pointer(&buf[0])), C.UInt32(len(buf))); s != 0 {
		return 0, "", osStatus(s)
	}
	return os.Geteuid(), C.GoString((*C.char)(unsafe.Pointer(&buf[0]))), nil
}

// password is what an item is found by. One that is synchronized is none of ours.
func password(account string) keychain.Item {
	item := keychain.NewItem()
	item.SetSecClass(keychain.SecClassGenericPassword)
	item.SetService(itemService)
	item.SetAccount(account)
	item.SetSynchronizable(keychain.SynchronizableNo)
	return item
}

func (passwords) add(account, label string, data []byte) error {
	item := password(account)
	item.SetLabel(label)
	item.SetData(data)
	return status(keychain.AddItem(item))
}

func (passwords) get(account string) ([]byte, error) {
	query := password(account)
	query.SetMatchLimit(keychain.MatchLimitOne)
	query.SetReturnData(true)
	found, err := keychain.QueryItem(query)
	switch {
	case err != nil:
		return nil, status(err)
	case len(found) != 1:
		return nil, errSecItemNotFound
	}
	return found[0].Data, nil
}

func (passwords) remove(account string) error { return status(keychain.DeleteItem(password(account))) }

func (passwords) accounts() ([]string, error) {
	query := password("") // any
	query.SetMatchLimit(keychain.MatchLimitAll)
	query.SetReturnAttributes(true)
	found, err := keychain.QueryItem(query)
	accounts := make([]string, len(found))
	for i, item := range found {
		accounts[i] = item.Account
	}
	return accounts, status(err)
}

// status takes the number out of go-keychain's error: it has words for some only.
func status(err error) error {
	var s keychain.Error
	if errors.As(err, &s) {
		return osStatus(s)
	}
	return err
}

func hostUUID() (id [16]byte, err error) {
	if r, err := C.sallyport_host_uuid((*C.uchar)(unsafe.Pointer(&id[0]))); r != 0 {
		return id, fmt.Errorf("gethostuuid: %w", err)
	}
	return id, nil
}
