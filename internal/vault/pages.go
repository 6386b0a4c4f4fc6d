package vault

import "os"

func checkPages(*os.File, int64) error { return nil }
