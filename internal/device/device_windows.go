package device

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/windows"
)

const osName = "windows"

func system(ctx context.Context) Facts {
	return Facts{Encrypted: bitLocker(ctx), TPM: tpm(), OS: osName, Version: version()}
}

func version() string {
	v := windows.RtlGetVersion()
	return fmt.Sprintf("%d.%d.%d", v.MajorVersion, v.MinorVersion, v.BuildNumber)
}

// Title is what people call this computer's system: "Windows 10.0.22631".
func Title() string { return "Windows " + version() }

// bitLocker asks manage-bde, which exits with 0 for a volume that is protected
// (manage-bde status, -protectionaserrorlevel). What it exits with otherwise is
// the same for a volume that is not and for an error, so that is unknown.
func bitLocker(ctx context.Context) Fact {
	dir, err := windows.GetSystemDirectory()
	if err != nil {
		return unknown(err.Error())
	}
	windir, err := windows.GetSystemWindowsDirectory()
	if err != nil {
		return unknown(err.Error())
	}
	err = exec.CommandContext(ctx, filepath.Join(dir, "manage-bde.exe"), "-status", filepath.VolumeName(windir), "-protectionaserrorlevel").Run()
	if err != nil {
		return unknown("manage-bde does not say that the system's volume is protected: " + err.Error())
	}
	return yes(true)
}

var getDeviceInfo = windows.NewLazySystemDLL("tbs.dll").NewProc("Tbsi_GetDeviceInfo")

// tpm asks the TPM Base Services (Tbsi_GetDeviceInfo).
func tpm() Fact {
	const notFound = 0x8028400F // TBS_E_TPM_NOT_FOUND
	if err := getDeviceInfo.Find(); err != nil {
		return unknown(err.Error())
	}
	var info struct{ structVersion, tpmVersion, interfaceType, implementationRevision uint32 } // TPM_DEVICE_INFO
	switch r, _, _ := getDeviceInfo.Call(unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info))); uint32(r) {
	case 0:
		return yes(true)
	case notFound:
		return yes(false)
	default:
		return unknown(fmt.Sprintf("Tbsi_GetDeviceInfo: 0x%08x", uint32(r)))
	}
}
