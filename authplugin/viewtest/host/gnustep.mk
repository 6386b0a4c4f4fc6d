# How to compile and link against GNUstep, the AppKit of the tests.
gnustep  = -isystem /usr/include/GNUstep -DGNUSTEP -DGNUSTEP_BASE_LIBRARY=1 -DGNU_GUI_LIBRARY=1 \
	-DGNU_RUNTIME=1 -D_NATIVE_OBJC_EXCEPTIONS -fexceptions -fobjc-exceptions -pthread \
	-fconstant-string-class=NSConstantString
gnulibs  = -lgnustep-gui -lgnustep-base -lobjc
