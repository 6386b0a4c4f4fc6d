package device

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"
)

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

func TestEncryptedVolumes(t *testing.T) {
	const dev = "sys/dev/block/254:0"
	for name, c := range map[string]struct {
		files        fstest.MapFS
		known, crypt bool
	}{
		"a partition":                    {fstest.MapFS{dev + "/partition": file("1")}, true, false},
		"dm-crypt":                       {fstest.MapFS{dev + "/dm/uuid": file("CRYPT-LUKS2-0123-root\n")}, true, true},
		"LVM on a partition":             {fstest.MapFS{dev + "/dm/uuid": file("LVM-abc"), dev + "/slaves/vda2/partition": file("2")}, true, false},
		"LVM on dm-crypt":                {fstest.MapFS{dev + "/dm/uuid": file("LVM-abc"), dev + "/slaves/dm-0/dm/uuid": file("CRYPT-LUKS2-x")}, true, true},
		"LVM, half of it crypt":          {fstest.MapFS{dev + "/dm/uuid": file("LVM-abc"), dev + "/slaves/dm-0/dm/uuid": file("CRYPT-LUKS2-x"), dev + "/slaves/vdb/size": file("1")}, true, false},
		"dm-verity, which hides nothing": {fstest.MapFS{dev + "/dm/uuid": file("CRYPT-VERITY-0123-root"), dev + "/slaves/vda2/partition": file("2")}, true, false},
		"dm-integrity":                   {fstest.MapFS{dev + "/dm/uuid": file("CRYPT-INTEGRITY-root"), dev + "/slaves/vda2/partition": file("2")}, true, false},
		"dm-crypt over its integrity":    {fstest.MapFS{dev + "/dm/uuid": file("CRYPT-LUKS2-0123-root"), dev + "/slaves/dm-0/dm/uuid": file("CRYPT-SUBDEV-LUKS2-0123-root_dif")}, true, true},
		"dm-verity over dm-crypt":        {fstest.MapFS{dev + "/dm/uuid": file("CRYPT-VERITY-0123-root"), dev + "/slaves/dm-0/dm/uuid": file("CRYPT-LUKS2-x")}, true, true},
		"a name that only looks like it": {fstest.MapFS{dev + "/dm/uuid": file("LVM-CRYPT-x")}, true, false},
		"btrfs on dm-crypt": {fstest.MapFS{"proc/self/mountinfo": file("29 1 0:26 /@ / rw - btrfs /dev/mapper/root rw\n30 29 0:27 / /proc rw - proc proc rw\n"),
			"sys/dev/block/253:1/dm/uuid": file("CRYPT-LUKS2-x")}, true, true},
		"overlay":            {fstest.MapFS{"proc/self/mountinfo": file("29 1 0:26 / / rw - overlay overlay rw\n")}, false, false},
		"nothing to be read": {fstest.MapFS{}, false, false},
		"devices in a ring":  {ring(dev), false, false},
	} {
		got := encrypted(c.files, func(path string) (string, error) {
			switch path {
			case "/":
				return "254:0", nil
			case "/dev/mapper/root":
				return "253:1", nil
			}
			return "", errors.New("no such device")
		})
		if got.Known != c.known || got.Yes != c.crypt || got.Known == (got.Why != "") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// ring is deeper than anything that is made.
func ring(dir string) fstest.MapFS {
	m := fstest.MapFS{}
	for range maxDepth + 2 {
		m[dir+"/dm/uuid"] = file("LVM-x")
		dir += "/slaves/dm-0"
	}
	return m
}

func TestTPMAndVersion(t *testing.T) {
	with := fstest.MapFS{"sys/class/tpm/tpm0/tpm_version_major": file("2\n"), "etc/os-release": file("NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n")}
	if f := tpm(with); !f.Known || !f.Yes {
		t.Errorf("a TPM: %+v", f)
	}
	if f := tpm(fstest.MapFS{"sys/class/net/lo": file("")}); !f.Known || f.Yes {
		t.Errorf("none: %+v", f)
	}
	if f := tpm(fstest.MapFS{}); f.Known || f.Why == "" {
		t.Errorf("no /sys: %+v", f)
	}
	if v := version(with); v != "12" {
		t.Errorf("version %q", v)
	}
	if v := version(fstest.MapFS{"usr/lib/os-release": file("VERSION_ID=9.4\n")}); v != "9.4" {
		t.Errorf("version %q", v)
	}
	if v := version(fstest.MapFS{"etc/os-release": file("ID=arch\n")}); v != "" {
		t.Errorf("version %q", v)
	}
}

func TestNetworks(t *testing.T) {
	const columns = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
	const wlan = "wlan0\t00000000\t010200C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\nwlan0\t000200C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0\n"
	name := func(route, if6 string) string {
		t.Helper()
		files := fstest.MapFS{"proc/self/net/route": file(columns + route)}
		if if6 != "" {
			files["proc/self/net/if_inet6"] = file(if6)
		}
		got, err := networks(files)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got, want := name(wlan, ""), "0.0.0.0/0.0.0.0>192.0.2.1 192.0.2.0/255.255.255.0>0.0.0.0"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	cable := "eth0\t000200C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\neth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
	if name(wlan, "") != name(cable, "") {
		t.Error("the same network by another interface is another one")
	}
	other := "wlan0\t00000000\tFE0200C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\nwlan0\t000200C0\t00000000\t0001\t0\t0\t600\t00FFFFFF\t0\t0\t0\n"
	if name(wlan, "") == name(other, "") {
		t.Error("the same numbers behind another gateway are the same network")
	}
	const v6 = "20010db8000000000000000000000005 02 40 00 80 eth0\nfe8000000000000000fc00fffe000001 02 40 20 80 eth0\n00000000000000000000000000000001 01 80 10 80 lo\n"
	if got := name("", v6); got != "2001:db8::/64" {
		t.Errorf("%q", got)
	}
	if got := name("", ""); got != "none" {
		t.Errorf("no network is %q", got)
	}
	for _, bad := range []string{"eth0\t00\t00\n", "eth0\tXX0200C0\t00000000\t1\t0\t0\t0\t00FFFFFF\n"} {
		if _, err := networks(fstest.MapFS{"proc/self/net/route": file(columns + bad)}); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	if _, err := networks(fstest.MapFS{"proc/self/net/route": file(columns + strings.Repeat(wlan, 15_000))}); err == nil {
		t.Error("the routes of the whole Internet are read at a login")
	}
	if _, err := networks(fstest.MapFS{}); err == nil {
		t.Error("what cannot be read is no network")
	}
}
